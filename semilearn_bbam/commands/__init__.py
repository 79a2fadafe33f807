"""One file per command of `semilearn-bbam`; `__main__` lists them."""
