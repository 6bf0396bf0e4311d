//! Hostile guests, volumes and clients: each takes what is not its own, and its neighbours on the node do not notice.

mod guests;
mod neighbours;

runwasi_tests::suite! { runwasi_tests::check_alone: alone_wasmtime = Wasmtime, alone_wasmtimed = Wasmtimed; {
    neighbours:
        spinning_guests_do_not_delay_their_neighbours;
}}
