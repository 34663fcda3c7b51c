/**
 * Makes inputs of inputs.
 *
 * Theory of operation: an input is a header and records. What is changed is a
 * byte, a field (some bytes at the same place in another record), or whole
 * records: taken out, put in, repeated, swapped, taken over from another
 * input. A few such changes are made at a time, most often one.
 *
 * @module
 */

import type { Random } from "./random.ts";
import type { Target } from "./target.ts";

/** Shape of the inputs of a target. */
export type Shape = Pick<Target, "header" | "record" | "maxRecords">;

const WORDS = [0, 1, 2, 0x7fff, 0x8000, 0xfffe, 0xffff] as const;

/** Number of records of an input; the last may be cut off. */
export function recordCount(input: Uint8Array, shape: Shape): number {
  const bytes = Math.max(0, input.length - shape.header);
  return Math.ceil(bytes / shape.record);
}

/** An input without some of its records. */
export function withoutRecords(
  input: Uint8Array,
  shape: Shape,
  first: number,
  count: number,
): Uint8Array {
  const at = Math.min(shape.header + first * shape.record, input.length);
  const end = Math.min(at + count * shape.record, input.length);
  const rest = new Uint8Array(input.length - (end - at));
  rest.set(input.subarray(0, at));
  rest.set(input.subarray(end), at);
  return rest;
}

/** Makes inputs of the shape of a target. */
export class Mutator {
  readonly #shape: Shape;
  readonly #random: Random;

  /** @param random decides everything */
  constructor(shape: Shape, random: Random) {
    this.#shape = shape;
    this.#random = random;
  }

  /** A new input. */
  generate(): Uint8Array {
    const { header, record, maxRecords } = this.#shape;
    const random = this.#random;
    const count = 1 + random.below(random.oneIn(4) ? maxRecords : 8);
    const input = new Uint8Array(header + count * record);
    for (let i = 0; i < input.length; i++) input[i] = random.byte();
    return input;
  }

  /**
   * Changes a copy of an input.
   *
   * @param other an input to take parts of
   */
  mutate(input: Uint8Array, other: Uint8Array): Uint8Array {
    const random = this.#random;
    let result = this.#whole(input);
    let changes = 1;
    while (changes < 8 && random.oneIn(2)) changes++;
    for (let i = 0; i < changes; i++) {
      result = this.#whole(this.#change(result, other));
    }
    return result;
  }

  /** A copy in which no record is cut off, and the header is there. */
  #whole(input: Uint8Array): Uint8Array {
    const { header, record, maxRecords } = this.#shape;
    const count = Math.min(recordCount(input, this.#shape), maxRecords);
    const result = new Uint8Array(header + count * record);
    result.set(input.subarray(0, result.length));
    return result;
  }

  #change(input: Uint8Array, other: Uint8Array): Uint8Array {
    const random = this.#random;
    const shape = this.#shape;
    const count = recordCount(input, shape);
    if (count === 0) return this.#insert(input, this.#fresh());
    const which = random.below(count);
    switch (random.below(14)) {
      case 0:
      case 1:
        return this.#insert(input, this.#fresh());
      case 2:
        return this.#insert(input, this.#record(input, which));
      case 3: {
        const many = recordCount(other, shape);
        if (many === 0) return this.#insert(input, this.#fresh());
        return this.#insert(input, this.#record(other, random.below(many)));
      }
      case 4:
        return withoutRecords(input, shape, which, 1 + random.below(3));
      case 5:
        return this.#splice(input, other, which);
      case 6:
        return this.#swap(input, which, random.below(count));
      case 7:
        return this.#borrow(input, which, other);
      case 8:
        return this.#headerByte(input);
      default:
        return this.#bytes(input, which);
    }
  }

  #fresh(): Uint8Array {
    const record = new Uint8Array(this.#shape.record);
    for (let i = 0; i < record.length; i++) record[i] = this.#random.byte();
    return record;
  }

  #record(input: Uint8Array, which: number): Uint8Array {
    const { header, record } = this.#shape;
    const at = header + which * record;
    const copy = new Uint8Array(record);
    copy.set(input.subarray(at, at + record));
    return copy;
  }

  #insert(input: Uint8Array, record: Uint8Array): Uint8Array {
    const shape = this.#shape;
    const count = recordCount(input, shape);
    if (count >= shape.maxRecords) return input;
    // At the end more often than elsewhere: there the states are.
    const which = this.#random.oneIn(2) ? count : this.#random.below(count + 1);
    const at = shape.header + which * shape.record;
    const result = new Uint8Array(input.length + shape.record);
    result.set(input.subarray(0, at));
    result.set(record, at);
    result.set(input.subarray(at), at + shape.record);
    return result;
  }

  /** The beginning of one input and the end of another. */
  #splice(input: Uint8Array, other: Uint8Array, cut: number): Uint8Array {
    const { header, record, maxRecords } = this.#shape;
    const from = this.#random.below(recordCount(other, this.#shape) + 1);
    const first = input.subarray(0, header + (cut + 1) * record);
    const second = other.subarray(header + from * record);
    const result = new Uint8Array(
      Math.min(first.length + second.length, header + maxRecords * record),
    );
    result.set(first);
    result.set(second.subarray(0, result.length - first.length), first.length);
    return result;
  }

  #swap(input: Uint8Array, a: number, b: number): Uint8Array {
    const { header, record } = this.#shape;
    const one = this.#record(input, a), two = this.#record(input, b);
    input.set(two, header + a * record);
    input.set(one, header + b * record);
    return input;
  }

  /** Takes over a field of another record. */
  #borrow(input: Uint8Array, which: number, other: Uint8Array): Uint8Array {
    const { header, record } = this.#shape;
    const random = this.#random;
    const source = random.oneIn(2) ? other : input;
    const count = recordCount(source, this.#shape);
    if (count === 0) return input;
    const from = this.#record(source, random.below(count));
    const at = random.below(record);
    const length = 1 + random.below(4);
    input.set(from.subarray(at, at + length), header + which * record + at);
    return input;
  }

  #headerByte(input: Uint8Array): Uint8Array {
    const { header } = this.#shape;
    if (header > 0) input[this.#random.below(header)] = this.#random.byte();
    return input;
  }

  #bytes(input: Uint8Array, which: number): Uint8Array {
    const { header, record } = this.#shape;
    const random = this.#random;
    const at = header + which * record + random.below(record);
    switch (random.below(5)) {
      case 0:
        input[at] ^= 1 << random.below(8);
        break;
      case 1:
        input[at] += random.oneIn(2) ? 1 + random.below(4) : -1 -
          random.below(4);
        break;
      case 2:
        input[at] = random.byte();
        break;
      case 3: {
        const word = random.pick(WORDS);
        input[at] = word;
        if (at + 1 < input.length) input[at + 1] = word >> 8;
        break;
      }
      default:
        for (let i = at; i < Math.min(at + 4, input.length); i++) {
          input[i] = random.byte();
        }
    }
    return input;
  }
}
