"""Arms with several seeds, compared: statistics, findings, tables, figures and the report."""
