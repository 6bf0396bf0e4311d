//! The interfaces of `wasi:keyvalue`.

use wasmtime::{
    AsContextMut, StoreContextMut,
    component::{Lift, Linker, LinkerInstance, Resource, ResourceType, WasmList},
};
use wasmtime_wasi::WasiView;

use crate::{
    component::store::Component,
    turns,
    wasi::keyvalue::{self, Data, Error},
};

const STORE: &str = "wasi:keyvalue/store@0.2.0-draft";
const ATOMICS: &str = "wasi:keyvalue/atomics@0.2.0-draft";
const BATCH: &str = "wasi:keyvalue/batch@0.2.0-draft";

/// Bytes of one part of a copy.
const PART: usize = 1 << 20;

/// Resource of a guest for a bucket, by its name.
struct Bucket(String);

type Answer<T> = wasmtime::Result<(Result<T, Error>,)>;

/// Calls `work` with the container's data and the bucket's name.
fn with<T>(
    mut store: StoreContextMut<'_, Component>,
    bucket: &Resource<Bucket>,
    work: impl FnOnce(&mut Data, &str) -> Result<T, Error>,
) -> Answer<T> {
    let component = store.data_mut();
    // A clone, because the table's borrow of the component includes the data.
    let data = component.keyvalue.clone();
    let Bucket(name) = component.ctx().table.get(bucket)?;
    Ok((work(&mut data.data(), name),))
}

/// Parameters of a function of `batch`.
// Not a `Vec`: wasmtime would copy all keys before the function could count them.
type Batch<T> = (Resource<Bucket>, WasmList<T>);

/// Calls `work` like [`with`], with the copied list of a batch, if that is not too large.
fn with_batch<P: Lift, T>(
    mut store: StoreContextMut<'_, Component>,
    (bucket, list): Batch<P>,
    work: impl FnOnce(&mut Data, &str, Vec<P>) -> Result<T, Error>,
) -> Answer<T> {
    if let Err(error) = keyvalue::fits_batch(list.len()) {
        return Ok((Err(error),));
    }
    let items = list.iter(store.as_context_mut())?.collect::<wasmtime::Result<_>>()?;
    with(store, &bucket, |data, name| work(data, name, items))
}

/// Copies a value out of the guest's memory, with a turn for each part.
async fn copied(store: &mut StoreContextMut<'_, Component>, value: &WasmList<u8>) -> Vec<u8> {
    let mut copy = Vec::with_capacity(value.len());
    while copy.len() < value.len() {
        if !copy.is_empty() {
            turns::end().await;
        }
        let rest = &value.as_le_slice(&*store)[copy.len()..];
        copy.extend_from_slice(&rest[..rest.len().min(PART)]);
    }
    copy
}

/// Ends the turn before the copy of a long result to the guest, which has no parts.
async fn before_copy_of(bytes: usize) {
    if bytes > PART {
        turns::end().await;
    }
}

async fn set_many(
    mut store: StoreContextMut<'_, Component>,
    (bucket, entries): Batch<(String, WasmList<u8>)>,
) -> Answer<()> {
    if let Err(error) = keyvalue::fits_batch(entries.len()) {
        return Ok((Err(error),));
    }
    let entries = entries.iter(store.as_context_mut())?.collect::<wasmtime::Result<Vec<_>>>()?;
    let bytes = entries.iter().map(|(_, value)| value.len()).sum();
    if let Err(error) = keyvalue::fits_values(bytes) {
        return Ok((Err(error),));
    }
    let mut copies = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        copies.push((key, copied(&mut store, &value).await));
    }
    with(store, &bucket, |data, name| {
        // Stops at the first failure; the interface allows that earlier entries are set.
        copies.into_iter().try_for_each(|(key, value)| data.set(name, key, value))
    })
}

/// Adds the interfaces to the linker.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    link_store(linker)?;
    let mut atomics = linker.instance(ATOMICS)?;
    atomics.func_wrap(
        "increment",
        |store, (bucket, key, delta): (Resource<Bucket>, String, u64)| {
            with(store, &bucket, |data, name| data.increment(name, key, delta))
        },
    )?;
    link_batch(linker)
}

fn link_store(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    let mut store = linker.instance(STORE)?;
    store.resource("bucket", ResourceType::host::<Bucket>(), |mut store, rep| {
        // Only the handle goes: the container keeps the bucket and its entries.
        store.data_mut().ctx().table.delete(Resource::<Bucket>::new_own(rep))?;
        Ok(())
    })?;
    store.func_wrap("open", |mut store, (identifier,): (String,)| {
        let component: &mut Component = store.data_mut();
        if let Err(error) = component.keyvalue.data().open(&identifier) {
            return Ok((Err(error),));
        }
        Ok((Ok(component.ctx().table.push(Bucket(identifier))?),))
    })?;
    link_values(&mut store)?;
    store.func_wrap(
        "[method]bucket.delete",
        |store, (bucket, key): (Resource<Bucket>, String)| {
            with(store, &bucket, |data, name| {
                data.delete(name, &key);
                Ok(())
            })
        },
    )?;
    store.func_wrap(
        "[method]bucket.exists",
        |store, (bucket, key): (Resource<Bucket>, String)| {
            with(store, &bucket, |data, name| Ok(data.get(name, &key).is_some()))
        },
    )?;
    store.func_wrap(
        "[method]bucket.list-keys",
        |store, (bucket, cursor): (Resource<Bucket>, Option<u64>)| {
            with(store, &bucket, |data, name| Ok(data.keys(name, cursor)))
        },
    )
}

/// The methods that copy values, which may be long.
fn link_values(store: &mut LinkerInstance<'_, Component>) -> wasmtime::Result<()> {
    store.func_wrap_async(
        "[method]bucket.get",
        |store, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move {
                let got = with(store, &bucket, |data, name| Ok(data.get(name, &key).cloned()))?;
                let value = got.0.as_ref().ok().and_then(Option::as_ref);
                before_copy_of(value.map_or(0, |value| value.len())).await;
                Ok(got)
            })
        },
    )?;
    store.func_wrap_async(
        "[method]bucket.set",
        |mut store, (bucket, key, value): (Resource<Bucket>, String, WasmList<u8>)| {
            Box::new(async move {
                if let Err(error) = keyvalue::fits_values(value.len()) {
                    return Ok((Err(error),));
                }
                let value = copied(&mut store, &value).await;
                with(store, &bucket, |data, name| data.set(name, key, value))
            })
        },
    )
}

fn link_batch(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    let mut batch = linker.instance(BATCH)?;
    batch.func_wrap_async("get-many", |store, keys: Batch<String>| {
        Box::new(async move {
            let got = with_batch(store, keys, |data, name, keys| data.get_many(name, keys))?;
            let values = got.0.iter().flatten().flatten();
            before_copy_of(values.map(|(_, value)| value.len()).sum()).await;
            Ok(got)
        })
    })?;
    batch.func_wrap_async("set-many", |store, entries| Box::new(set_many(store, entries)))?;
    batch.func_wrap("delete-many", |store, keys: Batch<String>| {
        with_batch(store, keys, |data, name, keys| {
            keys.iter().for_each(|key| data.delete(name, key));
            Ok(())
        })
    })
}
