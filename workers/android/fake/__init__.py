"""A rack of phones in one process, down to the wire: real adb servers connect to it (docs/fake-phones.md)."""
