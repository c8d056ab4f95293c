"""Review of cells by people: selection, page, answers, and the differential that follows from them."""
