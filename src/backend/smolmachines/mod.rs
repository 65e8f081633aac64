//! Bottles that are micro virtual machines, made by smolvm. So far: how smolvm is spoken to, and which versions will do.

pub mod smolvm;
