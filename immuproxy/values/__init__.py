"""The ground floor: small values that people write into files, commands and headers.  No word of tags or Redis."""
