"""`make simulate`: how often the intervals and verdicts that are shipped are right. Seeded."""
