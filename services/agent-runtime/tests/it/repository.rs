//! Repositories, with the real git on both ends.

mod checkouts;
mod commits;
mod copies;
mod names;
mod places;
mod pushes;
mod world;
