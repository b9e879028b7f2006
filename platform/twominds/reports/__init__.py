"""What people read: summaries of jobs, tables, charts and pages, and the answers and scores that stand in them."""
