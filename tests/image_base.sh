#!/usr/bin/env bash
# Makes a stand-in for the base image python:3.11-slim out of Debian's packages, for machines that
# reach no registry of images but Debian's mirror: 300 MB, some minutes. Needs root, podman and
# debootstrap. It is no release's base: its Python is Debian's.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
  bookworm "$scratch/root" >/dev/null
ln -s python3 "$scratch/root/usr/bin/python"
rm "$scratch/root/usr/lib/python3.11/EXTERNALLY-MANAGED"  # pip may install for everybody here
tar -C "$scratch/root" -c . | podman import \
  --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  - docker.io/library/python:3.11-slim
