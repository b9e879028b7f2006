"""HTTP around the scoring path, on Ray Serve: `app.build` is the way in."""
