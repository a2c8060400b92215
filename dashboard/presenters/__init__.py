"""From rows to what a cell, a dialog or a session shows. No Streamlit."""
