//! Verdicts as a terminal matrix, JUnit and JSON.
