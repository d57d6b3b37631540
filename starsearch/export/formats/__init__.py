"""The formats a trained network is exported in, a file each; `starsearch.export.format` says what one is."""
