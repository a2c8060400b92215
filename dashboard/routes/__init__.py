"""HTTP beside the pages: pictures, facts, events, meetings, scripts."""
