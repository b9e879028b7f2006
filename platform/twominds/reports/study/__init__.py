"""What a study or an evaluation tells: what each row answers, its scores, the tables and the page."""
