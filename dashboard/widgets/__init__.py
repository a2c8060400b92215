"""What pages are made of: inputs, filters, the page's frame, the browser's history, the lasso."""
