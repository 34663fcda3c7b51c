import { assertEquals, assertThrows } from "@std/assert";
import { OptionError } from "../option_reader.ts";
import {
  LUN_OPTIONS,
  resolveLun,
  resolvePlace,
  resolveScsiOptions,
  SCSI_OPTIONS,
} from "./options.ts";

Deno.test("resolveScsiOptions fills in defaults", () => {
  const { luns, ...rest } = resolveScsiOptions({ path: "a.img" });
  assertEquals(rest, { queues: 1, segMax: 126, initiator: "" });
  assertEquals(luns, [{
    target: 0,
    lun: 0,
    path: "a.img",
    readOnly: false,
    type: "disk",
    blockSize: undefined,
    serial: "",
    vendor: "VHOSTD",
    product: "DISK",
    wwn: "",
    rotational: false,
    thin: undefined,
    removable: false,
    direct: false,
    engine: "auto",
    format: "auto",
    share: false,
  }]);
  assertEquals(resolveScsiOptions({}).luns, []);
  const both = resolveScsiOptions({
    path: "a.img",
    luns: [{ target: 255, lun: 16383, path: "b.img" }],
  });
  assertEquals(both.luns.map(({ path }) => path), ["a.img", "b.img"]);
});

Deno.test("a CD-ROM is read-only, removable, of 2048 bytes", () => {
  const cd = resolveLun({ type: "cdrom" });
  assertEquals(
    [cd.readOnly, cd.removable, cd.blockSize, cd.thin, cd.product],
    [true, true, 2048, false, "CD-ROM"],
  );
});

Deno.test("options that cannot be are refused with what would be right", () => {
  const cases: [Record<string, unknown>, string, string][] = [
    [{}, "path", '"path" is missing: add path=PATH'],
    [{ path: "a\0b" }, "path", "it is the path of an image"],
    [{ path: "a", target: 256 }, "target", "from 0 to 255"],
    [{ path: "a", lun: 16384 }, "lun", "from 0 to 16383"],
    [{ path: "a", lun: "1" }, "lun", "from 0 to 16383"],
    [{ path: "a", type: "tape" }, "type", "one of disk, cdrom"],
    [{ path: "a", blockSize: 513 }, "block-size", "512, 1024, 2048, 4096"],
    [{ type: "cdrom", blockSize: 512 }, "block-size", "2048 bytes"],
    [{ path: "a", vendor: "NINECHARS" }, "vendor", "at most 8"],
    [{ path: "a", product: "ü" }, "product", "printable ASCII"],
    [{ path: "a", serial: "x".repeat(37) }, "serial", "at most 36"],
    [{ path: "a", wwn: "123" }, "wwn", "16 hexadecimal digits"],
    [{ path: "a", readonly: "yes" }, "readonly", "on or off"],
    [{ path: "a", engine: "magic" }, "engine", "auto, io_uring, sync"],
    [{ path: "a", readOnly: true }, "readOnly", 'did you mean "readonly"?'],
    [{ path: "a", queues: 2 }, "queues", '"queues" is no option'],
  ];
  for (const [values, option, right] of cases) {
    const error = assertThrows(
      () => resolveLun(values),
      OptionError,
      right,
    );
    assertEquals(error.option, option);
    assertEquals(error.kind, "usage");
  }
  const hosts: [Record<string, unknown>, string][] = [
    [{ queues: 255 }, "from 1 to 254"],
    [{ segMax: 0 }, "from 1 to 1008"],
    [{ luns: 5 }, "it is a list"],
    [
      { path: "a", luns: [{ path: "b" }] },
      'luns[0]: Cannot use target=0,lun=0: "a" has that place; choose another target= or lun=',
    ],
    [
      { luns: [{ type: "cdrom", lun: 2 }, { path: "b", lun: 2 }] },
      "luns[1]: Cannot use target=0,lun=2: another one has that place",
    ],
    [
      { path: "a", luns: [{ target: 1 }] },
      'luns[0]: "path" is missing: add path=PATH',
    ],
    [{ initiator: "a".repeat(65) }, "at most 64"],
    [{ path: "a", readOnly: true }, 'did you mean "readonly"?'],
    [{ path: "a", lun: 1 }, 'did you mean "luns"?'],
    [{ path: "a", target: 1 }, '"target" is no option'],
    [{ luns: [{ path: "a", readOnly: true }] }, 'did you mean "readonly"?'],
    [{ luns: [null] }, "luns[0]: Cannot use luns=null: it is an object"],
    [
      { readonly: true, luns: [{ path: "a" }] },
      "Cannot use readonly=true: it belongs to a logical unit, and the host has none",
    ],
    [{ serial: "7" }, "Cannot use serial=7: it belongs to a logical unit"],
  ];
  for (const [values, right] of hosts) {
    const error = assertThrows(
      () => resolveScsiOptions(values),
      OptionError,
      right,
    );
    const [, index] = /^luns\[(\d)\]: /.exec(error.message) ?? [];
    assertEquals(
      error.place,
      index === undefined ? null : { list: "luns", index: Number(index) },
    );
    assertEquals(error.message.endsWith(error.problem), true);
  }
});

Deno.test("the place of a logical unit is target 0, LUN 0 unless told otherwise", () => {
  assertEquals(resolvePlace({}), { target: 0, lun: 0 });
  const place = { target: 3, lun: 2 };
  assertEquals(resolvePlace({ ...place, path: "a" }, ["path"]), place);
  const wrong: [Record<string, unknown>, string][] = [
    [{ taget: 4 }, 'did you mean "target"?'],
    [{ path: "a" }, '"path" is no option'],
    [{ target: 256 }, "from 0 to 255"],
    [{ lun: "x" }, "from 0 to 16383"],
  ];
  for (const [given, right] of wrong) {
    assertThrows(() => resolvePlace(given), OptionError, right);
  }
});

Deno.test("every key of a logical unit is one of the host's, too", () => {
  const own = new Set(SCSI_OPTIONS.map(({ name }) => name));
  const places = ["target", "lun"];
  for (const { name, help } of LUN_OPTIONS) {
    assertEquals(own.has(name), !places.includes(name), name);
    assertEquals(help.endsWith("."), false);
  }
  const values: Record<string, unknown> = {
    path: "x",
    wwn: "0x5" + "0".repeat(15),
  };
  assertEquals(resolveLun(values).wwn, "5" + "0".repeat(15));
});
