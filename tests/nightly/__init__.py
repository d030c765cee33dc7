"""A farm that is swept every night in virtual time: what happens in its world, its one host, and who drives it."""
