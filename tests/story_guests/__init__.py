"""The whole story in machines that boot, from the built package on: docs/story.md is the transcript."""
