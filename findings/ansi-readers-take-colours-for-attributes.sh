#!/usr/bin/env bash
# Behaviour: of a colour of 256 or of RGB together with another attribute ansi-to-html makes
#   blinking, bold or italic text without the colour; ansicolor takes the numbers of each RGB
#   colour for attributes. ansi-sequence-parser goes on in the colour after the reset without a
#   number (ESC [ m) and after 31;39, where 39 is the default colour. Of ESC [ ?25l ansi-to-html
#   leaves "?25l".
# Versions: npm ansi-to-html 0.7.2, ansicolor 2.0.3, ansi-sequence-parser 1.1.3, @xterm/headless
#   6.0.0, Node 20.
# Expected: ECMA-48, SGR: several parameters apply one after another, the default is 0 (reset), 39
#   is the default colour; ISO/IEC 8613-6 and xterm: 38;5;n and 38;2;r;g;b are one colour each;
#   ECMA-48, 5.4: a control sequence ends with its final byte. xterm shows them so.
# Seen: 38;5;196;1: xterm colour 196 and bold, ansi-to-html blink and bold; 38;2;9;3;7: ansicolor
#   italic and inverse; 31, then m: ansi-sequence-parser red; ?25l: ansi-to-html "?25l"
# Here: containers' logs are shown on pages with such libraries.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts ansi-to-html@0.7.2 ansicolor@2.0.3 \
    ansi-sequence-parser@1.1.3 @xterm/headless@6.0.0
cat >read.js <<'JS'
const Html = require("ansi-to-html");
const ansicolor = require("ansicolor");
const { createAnsiSequenceParser } = require("ansi-sequence-parser");
const { Terminal } = require("@xterm/headless");

// What the terminal has at its last character.
const shown = (text) =>
  new Promise((resolve) => {
    const terminal = new Terminal({ allowProposedApi: true });
    terminal.write(text, () => {
      const { active } = terminal.buffer;
      const cell = active.getLine(0).getCell(active.cursorX - 1);
      const marks = { isBold: "bold", isItalic: "italic", isBlink: "blink", isDim: "faint" };
      const names = Object.keys(marks).filter((key) => cell[key]());
      const number = cell.getFgColor();
      const rgb = `#${number.toString(16).padStart(6, "0")}`;
      const colour = cell.isFgDefault() ? "default" : cell.isFgRGB() ? rgb : number;
      resolve([`colour ${colour}`, ...names.map((key) => marks[key])].join(", "));
    });
  });
const last = (list) => list[list.length - 1];
(async () => {
  for (const text of ["[31mx", "[38;5;196mx", "[38;5;196;1mx", "[38;2;9;3;7mx", "[1;38;2;9;3;7mx",
    "[31mr\x1b[mx", "[31;39mx", "[?25lx"]) {
    const { css } = last(ansicolor.parse(`\x1b${text}`).spans);
    const token = last(createAnsiSequenceParser().parse(`\x1b${text}`));
    const { name, index, rgb } = token.foreground ?? { name: "default" };
    console.log(`${text.replace("\x1b", " ESC ")}: xterm ${await shown(`\x1b${text}`)}`);
    console.log(`  ansi-to-html ${new Html().toHtml(`\x1b${text}`)}`);
    console.log(`  ansicolor ${css || "nothing"}`);
    const marked = [name ?? index ?? rgb, ...token.decorations].join(", ");
    console.log(`  ansi-sequence-parser ${marked}`);
  }
})();
JS
seen=$(node read.js)
echo "$seen"
wanted=$(
    cat <<'SEEN'
[31mx: xterm colour 1
  ansi-to-html <span style="color:#A00">x</span>
  ansicolor color:rgba(204,0,0,1);
  ansi-sequence-parser red
[38;5;196mx: xterm colour 196
  ansi-to-html <span style="color:#ff0000">x</span>
  ansicolor nothing
  ansi-sequence-parser 196
[38;5;196;1mx: xterm colour 196, bold
  ansi-to-html <blink><b>x</b></blink>
  ansicolor font-weight: bold;
  ansi-sequence-parser 196, bold
[38;2;9;3;7mx: xterm colour #090307
  ansi-to-html <span style="color:#090307">x</span>
  ansicolor font-style: italic;background:rgba(255,255,255,0.5);color:rgba(0,0,0,1);
  ansi-sequence-parser 9,3,7
[1;38;2;9;3;7mx: xterm colour #090307, bold
  ansi-to-html <b><strike><i>x</i></strike></b>
  ansicolor font-style: italic;background:rgba(255,255,255,0.5);color:rgba(0,0,0,1);
  ansi-sequence-parser 9,3,7, bold
[31mr ESC [mx: xterm colour default
  ansi-to-html <span style="color:#A00">r</span>x
  ansicolor nothing
  ansi-sequence-parser red
[31;39mx: xterm colour default
  ansi-to-html <span style="color:#A00"><span style="color:#FFF">x</span></span>
  ansicolor nothing
  ansi-sequence-parser red
[?25lx: xterm colour default
  ansi-to-html ?25lx
  ansicolor nothing
  ansi-sequence-parser default
SEEN
)
[[ $seen == "$wanted" ]] || changed "they read the sequences otherwise"
