//! Hostile guests, volumes and clients: each takes what is not its own, and its neighbours on the node do not notice.

mod calls;
mod guests;
mod neighbours;

runwasi_tests::suite! { runwasi_tests::check_alone: alone_wasmtime = Wasmtime, alone_wasmtimed = Wasmtimed; {
    calls:
        random_bytes_hold_no_worker
        many_subscriptions_hold_no_worker
        most_subscriptions_hold_no_worker
        a_large_directory_holds_no_worker
        a_large_write_holds_no_worker
        a_name_with_many_addresses_holds_no_worker
        a_million_missing_keys_hold_no_worker;
    neighbours:
        spinning_guests_do_not_delay_their_neighbours;
}}

runwasi_tests::suite! { wasmtime = Wasmtime, wasmtimed = Wasmtimed; {
    calls:
        random_bytes_are_complete
        a_poll_has_a_limited_number_of_subscriptions
        a_directory_is_listed_once_with_any_buffer
        a_large_write_is_complete;
}}
