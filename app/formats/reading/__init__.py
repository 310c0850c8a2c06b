"""Pictures that strangers send: bounds before decoding, decoding, comparison."""
