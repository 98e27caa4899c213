"""The passes: one per file, their registry, pipeline text and manager, and the analyses that they share."""
