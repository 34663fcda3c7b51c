/**
 * A small assembler for 16-bit real-mode x86 programs (boot sectors): the
 * instructions that such programs here need, labels, and data.
 *
 * Theory of operation: each method appends the encoding of one instruction
 * (Intel SDM volume 2: opcode, ModRM byte, displacement, immediate). A label
 * may be used before it is placed; its uses are noted and filled in by
 * `assemble`. Memory operands are always a label or an absolute address
 * (ModRM mod 00, r/m 110: a 16-bit displacement) or `es:[di]`.
 *
 * @module
 */

/** The 16-bit registers, by their number in an encoding. */
const WORD_REGISTERS = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
/** The 8-bit registers, by their number in an encoding. */
const BYTE_REGISTERS = ["al", "cl", "dl", "bl", "ah", "ch", "dh", "bh"];
/** The segment registers, by their number in an encoding. */
const SEGMENT_REGISTERS = ["es", "cs", "ss", "ds"];

/** A 16-bit register. */
export type Word = "ax" | "cx" | "dx" | "bx" | "sp" | "bp" | "si" | "di";
/** An 8-bit register. */
export type Byte = "al" | "cl" | "dl" | "bl" | "ah" | "ch" | "dh" | "bh";
/** A segment register that can be loaded. */
export type Segment = "es" | "ss" | "ds";

/** Conditions of short jumps, with their opcodes. */
const CONDITIONS = { carry: 0x72, equal: 0x74, belowOrEqual: 0x76 };

interface Use {
  readonly label: string;
  readonly at: number;
  readonly kind: "absolute16" | "relative8" | "relative16";
}

/**
 * Assembles one program.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * const program = new Assembler(0x7c00);
 * program.label("again").hlt().jump("again");
 * assertEquals(program.assemble(), new Uint8Array([0xf4, 0xeb, 0xfd]));
 * ```
 */
export class Assembler {
  readonly #origin: number;
  #bytes: number[] = [];
  #labels = new Map<string, number>();
  #uses: Use[] = [];

  /** @param origin the address at which the program is loaded */
  constructor(origin: number) {
    this.#origin = origin;
  }

  /** Gives the next byte's address a name. */
  label(name: string): this {
    if (this.#labels.has(name)) {
      throw new RangeError(`Label "${name}" is placed twice`);
    }
    this.#labels.set(name, this.#bytes.length);
    return this;
  }

  /** Plain bytes. */
  data8(...values: readonly number[]): this {
    for (const value of values) this.#emit(value);
    return this;
  }

  /** 16-bit little-endian words. */
  data16(...values: readonly number[]): this {
    for (const value of values) this.#emit16(value);
    return this;
  }

  /** Zeros up to a multiple of `bytes` from the program's start. */
  align(bytes: number): this {
    while (this.#bytes.length % bytes !== 0) this.#emit(0);
    return this;
  }

  /** Zeros up to `offset` from the program's start. */
  fillTo(offset: number): this {
    if (this.#bytes.length > offset) {
      throw new RangeError(
        `The program has ${this.#bytes.length} bytes, ${offset} are free`,
      );
    }
    while (this.#bytes.length < offset) this.#emit(0);
    return this;
  }

  /** `xor a, b` */
  xor(a: Word, b: Word): this {
    return this.#emit(0x31, registers(word(b), word(a)));
  }

  /** `mov register, value`; a label stands for its address. */
  load(register: Word, value: number | string): this {
    this.#emit(0xb8 + word(register));
    return typeof value === "string"
      ? this.#use(value, "absolute16")
      : this.#emit16(value);
  }

  /** `mov register, value`; a character stands for its code. */
  loadByte(register: Byte, value: number | string): this {
    const code = typeof value === "string" ? value.charCodeAt(0) : value;
    return this.#emit(0xb0 + byte(register), code);
  }

  /** `mov to, from` */
  moveByte(to: Byte, from: Byte): this {
    return this.#emit(0x88, registers(byte(from), byte(to)));
  }

  /** `mov to, from` */
  moveWord(to: Word, from: Word): this {
    return this.#emit(0x89, registers(word(from), word(to)));
  }

  /** `mov segment, register` */
  loadSegment(segment: Segment, register: Word): this {
    const number = SEGMENT_REGISTERS.indexOf(segment);
    return this.#emit(0x8e, registers(number, word(register)));
  }

  /** `mov [label], register` */
  storeByte(label: string, register: Byte): this {
    return this.#emit(0x88, memory(byte(register))).#use(label, "absolute16");
  }

  /** `mov register, [label]` */
  fetchByte(register: Byte, label: string): this {
    return this.#emit(0x8a, memory(byte(register))).#use(label, "absolute16");
  }

  /** `mov [label], register` */
  storeWord(label: string, register: Word): this {
    return this.#emit(0x89, memory(word(register))).#use(label, "absolute16");
  }

  /** `mov dword [label], value` (the low 32 bits) */
  storeImmediate32(label: string, value: number): this {
    this.#emit(0x66, 0xc7, memory(0)).#use(label, "absolute16");
    return this.#emit16(value & 0xffff).#emit16(value >>> 16);
  }

  /** `cmp register, [label]` */
  compareWord(register: Word, label: string): this {
    return this.#emit(0x3b, memory(word(register))).#use(label, "absolute16");
  }

  /** `add register, es:[di]` */
  addFromDestination(register: Word): this {
    return this.#emit(0x26, 0x03, (word(register) << 3) | 5);
  }

  /** `rol register, count` */
  rotateLeft(register: Word, count: number): this {
    return this.#emit(0xc1, registers(0, word(register)), count);
  }

  /** `add register, value`, the value from -128 to 127 */
  addImmediate(register: Word, value: number): this {
    return this.#emit(0x83, registers(0, word(register)), value & 0xff);
  }

  /** `and al, value` */
  andAl(value: number): this {
    return this.#emit(0x24, value);
  }

  /** `add al, value` */
  addAl(value: number): this {
    return this.#emit(0x04, value);
  }

  /** `cmp al, value` */
  compareAl(value: number): this {
    return this.#emit(0x3c, value);
  }

  /** `push register` */
  push(register: Word): this {
    return this.#emit(0x50 + word(register));
  }

  /** `pop register` */
  pop(register: Word): this {
    return this.#emit(0x58 + word(register));
  }

  /** `rep stosw`: fills cx words at es:di with ax */
  fillWords(): this {
    return this.#emit(0xf3, 0xab);
  }

  /** `out dx, al` */
  out(): this {
    return this.#emit(0xee);
  }

  /** `int number` */
  interrupt(number: number): this {
    return this.#emit(0xcd, number);
  }

  /** `call label` */
  call(label: string): this {
    return this.#emit(0xe8).#use(label, "relative16");
  }

  /** `ret` */
  return(): this {
    return this.#emit(0xc3);
  }

  /** `hlt` */
  hlt(): this {
    return this.#emit(0xf4);
  }

  /** `jmp label`, within 128 bytes */
  jump(label: string): this {
    return this.#emit(0xeb).#use(label, "relative8");
  }

  /** A conditional jump to `label`, within 128 bytes. */
  jumpIf(condition: keyof typeof CONDITIONS, label: string): this {
    return this.#emit(CONDITIONS[condition]).#use(label, "relative8");
  }

  /** `loop label`: counts cx down and jumps while it is not 0 */
  loop(label: string): this {
    return this.#emit(0xe2).#use(label, "relative8");
  }

  /**
   * The program's bytes.
   *
   * @throws {RangeError} for a label that is not placed or is out of reach
   */
  assemble(): Uint8Array<ArrayBuffer> {
    const program = new Uint8Array(this.#bytes);
    const view = new DataView(program.buffer);
    for (const { label, at, kind } of this.#uses) {
      const target = this.#labels.get(label);
      if (target === undefined) {
        throw new RangeError(`Label "${label}" is placed nowhere`);
      }
      if (kind === "absolute16") {
        view.setUint16(at, this.#origin + target, true);
      } else if (kind === "relative16") {
        view.setInt16(at, target - (at + 2), true);
      } else {
        const distance = target - (at + 1);
        if (distance < -128 || distance > 127) {
          throw new RangeError(
            `Label "${label}" is ${distance} bytes away, a short jump ` +
              "reaches -128 to 127",
          );
        }
        view.setInt8(at, distance);
      }
    }
    return program;
  }

  #emit(...values: readonly number[]): this {
    for (const value of values) this.#bytes.push(value & 0xff);
    return this;
  }

  #emit16(value: number): this {
    return this.#emit(value, value >> 8);
  }

  #use(label: string, kind: Use["kind"]): this {
    this.#uses.push({ label, at: this.#bytes.length, kind });
    return kind === "relative8" ? this.#emit(0) : this.#emit16(0);
  }
}

function word(register: Word): number {
  return WORD_REGISTERS.indexOf(register);
}

function byte(register: Byte): number {
  return BYTE_REGISTERS.indexOf(register);
}

/** A ModRM byte with two registers. */
function registers(reg: number, rm: number): number {
  return 0xc0 | (reg << 3) | rm;
}

/** A ModRM byte with a 16-bit address that follows. */
function memory(reg: number): number {
  return (reg << 3) | 6;
}
