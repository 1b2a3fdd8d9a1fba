"""Where what was trained on came from, and where what came in went: steps, samples, documents, repositories, both ways.

Reading order: places (which rows of a tier a training document is), records (what is known of a file), step, repository, words.
"""
