"""YAML and JSON files of others: one reader each with limits, and one check of their form."""
