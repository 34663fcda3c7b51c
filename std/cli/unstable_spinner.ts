const LINE_CLEAR = "\r\x1b[K";
const COLOR_RESET = "\x1b[0m";

const colors = {
  black: "\x1b[30m",
  red: "\x1b[31m",
  green: "\x1b[32m",
  yellow: "\x1b[33m",
  blue: "\x1b[34m",
  magenta: "\x1b[35m",
  cyan: "\x1b[36m",
  white: "\x1b[37m",
  gray: "\x1b[90m",
};

/** An escape sequence, where a {@linkcode Color} is not one of the names. */
// deno-lint-ignore ban-types
export type Ansi = string & {};

/** Color of a {@linkcode Spinner}. */
export type Color = keyof typeof colors | Ansi;

/** Options of {@linkcode Spinner}. */
export interface SpinnerOptions {
  /** The frames, shown in turn. Ten Braille patterns by default. */
  spinner?: string[];
  /** The text beside the frames. Empty by default. */
  message?: string;
  /** Milliseconds from frame to frame. 75 by default. */
  interval?: number;
  /** Color of the frames. That of the terminal by default. */
  color?: Color;
  /** Where to write. Standard output by default. */
  output?: typeof Deno.stderr | typeof Deno.stdout;
}

/**
 * A line of a terminal that moves while something is under way. The published
 * package keeps it under a name that says it may still change.
 *
 * @example
 * ```ts ignore
 * import { Spinner } from "@std/cli/unstable-spinner";
 *
 * const spinner = new Spinner({ message: "Booting", color: "yellow" });
 * spinner.start();
 * await booted;
 * spinner.stop();
 * ```
 */
export class Spinner {
  /** The text beside the frames, which may change at any time. */
  message: string;
  readonly #frames: string[];
  readonly #interval: number;
  readonly #output: typeof Deno.stdout | typeof Deno.stderr;
  #color: string | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;

  /** @param options Options of the spinner; it does not start by itself. */
  constructor(options?: SpinnerOptions) {
    this.message = options?.message ?? "";
    this.#frames = options?.spinner ?? [..."⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"];
    this.#interval = options?.interval ?? 75;
    this.#output = options?.output ?? Deno.stdout;
    this.color = options?.color;
  }

  /** The escape sequence of the color, or undefined for the terminal's own. */
  get color(): Color | undefined {
    return this.#color;
  }

  set color(value: Color | undefined) {
    this.#color = value ? (colors as Record<string, string>)[value] : undefined;
  }

  /** Shows the first frame and goes on by itself; nothing when started. */
  start(): void {
    if (this.#timer !== undefined || this.#output.writable.locked) return;
    let at = 0;
    const show = (): void => {
      const frame = this.#frames[at];
      at = (at + 1) % this.#frames.length;
      const painted = Deno.noColor
        ? frame
        : `${this.#color ?? ""}${frame}${COLOR_RESET}`;
      this.#write(`${LINE_CLEAR}${painted} ${this.message}`);
    };
    this.#timer = setInterval(show, this.#interval);
    show();
  }

  /** Clears the line and stops; nothing when not started. */
  stop(): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#write(LINE_CLEAR);
  }

  #write(text: string): void {
    this.#output.writeSync(new TextEncoder().encode(text));
  }
}
