"""The course kit: problem sets from one source each, graded in a sandbox, and the proof that they grade rightly."""
