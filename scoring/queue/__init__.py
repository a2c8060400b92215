"""What to review next and by whom: order, suspicion, random controls, assignments, second readers, estimates.

No torch. The pages and the report read it; it knows the log and no page.
"""
