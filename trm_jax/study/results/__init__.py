"""What a study says: findings, tables, figures, report."""
