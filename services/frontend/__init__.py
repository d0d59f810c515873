"""The page for people: it shows the names of a beast, adds and removes them, and measures itself in the browser."""
