"""HTTP beside the pages: images, facts, events, meetings, scripts."""
