"""From final IR to something else: programs, pictures, tables."""
