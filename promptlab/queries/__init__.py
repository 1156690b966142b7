"""Questions about runs: filters, sorts, searches, histograms and comparisons, as SQL."""
