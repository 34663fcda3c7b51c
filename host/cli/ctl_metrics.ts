/**
 * The result of `status` in the text format of Prometheus: every number and every
 * yes or no, for whoever collects them.
 *
 * A name is made of what the fact is called in `status`: `requests.bytesRead` of a
 * disk is `vhostd_blk_requests_bytes_read`. What is no word (`EIO`, `0x28`) becomes
 * a label, and so does the place in a list. Texts are left out.
 *
 * Source: Prometheus, "Exposition formats", version 0.0.4.
 *
 * @module
 */

import { Status } from "../management/device_methods.ts";
import { PROGRAM } from "../version.ts";

type Labels = Readonly<Record<string, string>>;

/** Facts that tell which element of a list one is. */
const PLACES = ["index", "initiator", "target", "lun", "name"];
/** Facts of a device that are told in another way, or of nobody's interest. */
const APART = ["name", "type", "pid", "state", "session", "rings", "device"];

/** The result of `status` as samples, those of one name together. */
export function metrics(result: unknown): string {
  const { version, uptime, devices } = Status.parse(result);
  const samples = new Samples();
  samples.add([PROGRAM, "info"], 1, { version });
  samples.add([PROGRAM, "uptime"], uptime, {});
  for (const { name, type, ...facts } of devices) {
    const { state, session, rings, device } = facts;
    const labels = { device: name, type };
    const common = Object.entries(facts).filter(([key]) =>
      !APART.includes(key)
    );
    samples.add([PROGRAM, "device", "running"], state === "running", labels);
    samples.walk([PROGRAM, "device"], Object.fromEntries(common), labels);
    samples.walk([PROGRAM, "device"], { rings }, labels);
    // Its rings and regions are those of the guest: they are no counters.
    const counts = Object.entries(session ?? {})
      .filter(([, value]) => !Array.isArray(value));
    samples.walk([PROGRAM, "session"], Object.fromEntries(counts), labels);
    samples.walk([PROGRAM, type], device, labels);
  }
  return samples.toString();
}

/** Samples by the name of their metric. */
class Samples {
  readonly #lines = new Map<string, string[]>();

  /** Adds a sample, if it is one. */
  add(path: readonly string[], value: unknown, labels: Labels): void {
    if (typeof value !== "number" && typeof value !== "boolean") return;
    const name = path.map(snake).join("_");
    const text = Object.entries(labels)
      .map(([label, each]) => `${label}="${escape(each)}"`).join(",");
    const lines = this.#lines.get(name) ?? [];
    lines.push(`${name}${text === "" ? "" : `{${text}}`} ${Number(value)}`);
    this.#lines.set(name, lines);
  }

  /** Adds everything in an object. */
  walk(path: readonly string[], facts: object, labels: Labels): void {
    for (const [key, value] of Object.entries(facts)) {
      if (Array.isArray(value)) this.#walkList([...path, key], value, labels);
      else if (!isWord(key)) {
        this.add(path, value, { ...labels, [snake(path.at(-1)!)]: key });
      } else if (typeof value === "object" && value !== null) {
        this.walk([...path, key], value, labels);
      } else this.add([...path, key], value, labels);
    }
  }

  #walkList(
    path: readonly string[],
    list: readonly unknown[],
    labels: Labels,
  ): void {
    const label = snake(path.at(-1)!).replace(/s$/, "");
    list.forEach((element: unknown, i) => {
      if (typeof element !== "object" || element === null) return;
      const facts = Object.entries(element);
      const places = facts.filter(([key]) => PLACES.includes(key));
      const own = Object.fromEntries(
        places.map(([key, value]) => [
          key === "index" || key === "name" ? label : key,
          String(value),
        ]),
      );
      const others = facts.filter(([key]) => !PLACES.includes(key));
      this.walk(path, Object.fromEntries(others), {
        ...labels,
        ...(places.length === 0 ? { [label]: String(i) } : own),
      });
    });
  }

  /** One line for each sample. */
  toString(): string {
    return [...this.#lines.keys()].sort()
      .flatMap((name) => this.#lines.get(name)!).join("\n");
  }
}

function isWord(key: string): boolean {
  return /^[a-z][A-Za-z0-9]*$/.test(key);
}

/** `bytesRead` becomes `bytes_read`. */
function snake(word: string): string {
  return word.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
    .replace(/[^a-z0-9_]/g, "_");
}

function escape(value: string): string {
  return value.replace(/[\\"]/g, "\\$&").replaceAll("\n", "\\n");
}
