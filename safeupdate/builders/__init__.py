"""Who brings modules from outside the kernel's own package, one file a builder: where its work lies and how it stands."""
