"""Offline training of the generators that `app` serves. Imports nothing from `app`."""
