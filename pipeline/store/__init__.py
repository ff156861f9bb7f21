"""The artifact store on disk: artifacts, locks, file hashes and canonical JSON."""
