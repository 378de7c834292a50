"""Everything a person looks at: report, view, plots, pages. Reads folders, writes pages."""
