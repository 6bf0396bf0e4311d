#!/usr/bin/env bash
# Behaviour: zbus writes a match rule that wants an argument with an apostrophe so that the
#   apostrophe ends the text: the bus refuses the rule. It reads no rule with a comma in an
#   argument, nor one without quotes or with a blank after a comma, all of which the bus takes.
# Versions: Rust crate zbus 5.19.0; Debian dbus-daemon, dbus-bin and libdbus-1-3
#   1.14.10-1~deb12u1, libapparmor1 3.0.8-3, libexpat1 2.5.0-1+deb12u5 (bookworm).
# Expected: it's as 'it'\''s'. D-Bus specification, Match Rules: "Within single quotes (ASCII
#   apostrophe), a backslash (U+005C) represents itself, and an apostrophe ends the quoted
#   section. Outside single quotes, \' (backslash, apostrophe) represents an apostrophe".
# Seen: dbus-daemon refuses arg0='it's' of zbus, "Unbalanced quotation marks in match rule", and
#   takes arg0='it'\''s', arg0='a,b', type=signal and "type='signal', member='X'"; zbus refuses
#   the last three
# Here: programs wait for a unit of systemd by a rule with its name, in which an apostrophe may
#   be; a rule that came from elsewhere, as from a file of settings, is best not read by this
#   crate.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download libapparmor1=3.0.8-3 libexpat1=2.5.0-1+deb12u5 \
    {dbus-daemon,dbus-bin,libdbus-1-3}=1.14.10-1~deb12u1
for package in *.deb; do dpkg -x "$package" debian; done
export LD_LIBRARY_PATH=$dir/debian/usr/lib/x86_64-linux-gnu:$dir/debian/lib/x86_64-linux-gnu
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "rule"
version = "0.0.0"
edition = "2021"

[dependencies]
zbus = "=5.19.0"
TOML
cat >app/src/main.rs <<'RS'
use zbus::{message::Type, MatchRule};

/// Prints the rule for an argument, then whether the rules of the command line are read.
fn main() {
    let rule = MatchRule::builder().msg_type(Type::Signal).arg(0, "it's").unwrap().build();
    println!("{rule}");
    for rule in std::env::args().skip(1) {
        let read = MatchRule::try_from(rule.as_str()).is_ok();
        println!("{rule}: {}", if read { "read" } else { "refused" });
    }
}
RS
cat >bus.conf <<'XML'
<busconfig>
  <type>session</type>
  <listen>unix:dir=.</listen>
  <policy context="default">
    <allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/>
  </policy>
</busconfig>
XML
sed -i "s#unix:dir=.#unix:dir=$dir#" bus.conf
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
escaped="type='signal',arg0='it'\\''s'"
rules=("type='signal',arg0='a,b'" "type=signal,member='X'" "type='signal', member='X'")
target/debug/rule "${rules[@]}" "type='signal',member='X'" >written
cat written
{
    echo "type='signal',arg0='it's'"
    printf '%s: refused\n' "${rules[@]}"
    echo "type='signal',member='X': read"
} >wanted
cmp written wanted || changed "zbus has others"

# Asks the bus for each rule.
cat >ask.sh <<'SH'
for rule; do
    said=$(debian/usr/bin/dbus-send --print-reply --dest=org.freedesktop.DBus / \
        org.freedesktop.DBus.AddMatch "string:$rule" 2>&1) || true
    case $said in
    *MatchRuleInvalid*) echo "$rule: ${said#*MatchRuleInvalid: }" ;;
    *'method return'*) echo "$rule: taken" ;;
    esac
done
SH
debian/usr/bin/dbus-run-session --dbus-daemon=debian/usr/bin/dbus-daemon --config-file=bus.conf -- \
    bash ask.sh "$(head -n 1 written)" "$escaped" "${rules[@]}" >said 2>messages
cat said
{
    echo "type='signal',arg0='it's': Unbalanced quotation marks in match rule"
    printf '%s: taken\n' "$escaped" "${rules[@]}"
} >wanted
cmp said wanted || changed "the bus has others"
