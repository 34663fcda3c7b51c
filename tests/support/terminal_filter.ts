/**
 * Plain text from what a program writes to a terminal.
 *
 * @module
 */

const ESCAPE = 0x1b;
const BELL = 0x07;
const BACKSPACE = 0x08;

/**
 * Removes terminal control sequences (ECMA-48 CSI, OSC and two-character
 * escapes), carriage returns, bells and NULs from a stream of text. A
 * sequence may be split over any number of pieces. A backspace removes the
 * character before it where that is in the same piece.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * const filter = new TerminalFilter();
 * assertEquals(filter.push("a\r\n\u001b[1;3"), "a\n");
 * assertEquals(filter.push("1mred\u001b[0m"), "red");
 * ```
 */
export class TerminalFilter {
  #state: "text" | "escape" | "charset" | "csi" | "string" = "text";

  /** The plain part of the next piece of the stream. */
  push(piece: string): string {
    let plain = "";
    for (const character of piece) {
      const code = character.charCodeAt(0);
      switch (this.#state) {
        case "text":
          if (code === ESCAPE) this.#state = "escape";
          else if (code === BACKSPACE) plain = plain.slice(0, -1);
          else if (code >= 0x20 || code === 0x09 || code === 0x0a) {
            plain += character;
          }
          break;
        case "escape":
          if (character === "[") this.#state = "csi";
          else if ("]PX^_".includes(character)) this.#state = "string";
          else if ("()*+#%".includes(character)) this.#state = "charset";
          else if (code !== ESCAPE) this.#state = "text";
          break;
        case "charset":
          this.#state = "text";
          break;
        case "csi":
          if (code >= 0x40 && code <= 0x7e) this.#state = "text";
          break;
        case "string": // ends with BEL or with ESC \
          if (code === BELL) this.#state = "text";
          else if (code === ESCAPE) this.#state = "escape";
          break;
      }
    }
    return plain;
  }
}
