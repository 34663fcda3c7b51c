import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { resolve } from "@std/path";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import type { DeviceSpec } from "../device_host.ts";
import { BALLOON, BLK, type DeviceType, NET, SCSI } from "../device_types.ts";
import { HostError } from "../error.ts";
import {
  type DeviceRequest,
  type PartRequest,
  planDevices,
  type PlannedDevice,
} from "./device_specs.ts";
import { splitOptions } from "./grammar.ts";

function plan(...lists: string[]): DeviceSpec[] {
  return planDevices(lists.map((list) => ({
    subject: "--blk",
    type: BLK,
    pairs: splitOptions(list),
  }))).map(({ spec }) => spec);
}

function refusal(...lists: string[]): string {
  const error = assertThrows(() => plan(...lists), HostError);
  assertEquals(error.kind, "usage");
  return error.message;
}

Deno.test("planDevices() separates the device's options from the host's", () => {
  const [spec] = plan(
    "path=a.img,socket=a.sock,id=root,mode=660,group=0,indirect=off,queues=2",
  );
  const { options, module, ...rest } = spec;
  assertEquals(rest, {
    name: "root",
    type: "blk",
    socket: "a.sock",
    mode: 0o660,
    group: 0,
    workers: 1,
    ringHint:
      "the device has 2 request queues: num-queues=2 in QEMU, or queues=N here",
    poll: "auto",
    eventIdx: true,
    indirect: false,
    packed: true,
    inOrder: true,
  });
  assertEquals(module, BLK.module);
  assertEquals([options.path, options.queues, options.segMax], [
    "a.img",
    2,
    126,
  ]);
  for (const name of ["id", "socket", "mode", "group", "poll", "indirect"]) {
    assertEquals(name in options, false, name);
  }
});

Deno.test("planDevices() keeps the name of a shared process from the device", () => {
  const devices = planDevices(["path=a,process=pool", "path=b"].map((list) => ({
    subject: "--blk",
    type: BLK,
    pairs: splitOptions(list),
  })));
  assertEquals(devices.map(({ process }) => process), ["pool", null]);
  for (const { options, spec } of devices) {
    assertEquals(["process" in options, "process" in spec], [false, false]);
  }
  assertEquals(
    refusal("path=a,process=7"),
    '--blk: "process=7" is no name: a letter, then letters, digits, ".", "_" and "-" are possible, "all" excepted',
  );
});

Deno.test("planDevices() names devices and their sockets", () => {
  assertEquals(
    plan("path=a", "path=b", "path=c,id=blk2", "path=d", "path=e,socket=e.sock")
      .map(({ name, socket }) => [name, socket]),
    [
      ["blk", "./vhostd-data/blk.sock"],
      ["blk1", "./vhostd-data/blk1.sock"],
      ["blk2", "./vhostd-data/blk2.sock"],
      ["blk3", "./vhostd-data/blk3.sock"],
      ["blk4", "e.sock"],
    ],
  );
});

Deno.test("planDevices() takes a descriptor instead of a path", () => {
  const [spec] = plan("path=a,fd=7");
  assertEquals([spec.fd, "socket" in spec], [7, false]);
});

Deno.test("planDevices() takes groups by name", () => {
  assertEquals(plan("path=a,group=root")[0].group, 0);
  assertEquals(
    refusal("path=a,group=no such group"),
    '--blk: Cannot find group "no such group": it is neither a number nor a name in /etc/group',
  );
});

Deno.test("planDevices() refuses options that contradict each other", () => {
  for (const option of ["socket=a.sock", "mode=600", "group=0"]) {
    assertEquals(
      refusal(`path=a,fd=7,${option}`),
      `--blk: "${
        option.split("=")[0]
      }" and "fd" exclude each other: the socket of a descriptor exists already`,
    );
  }
});

Deno.test("planDevices() refuses wrong names, modes, descriptors and paths", () => {
  const nameProblem =
    'is no name: a letter, then letters, digits, ".", "_" and "-" are possible, "all" excepted';
  const cases: [string, string][] = [
    ["id=", `"id=" ${nameProblem}`],
    ["id=1a", `"id=1a" ${nameProblem}`],
    ["id=a/b", `"id=a/b" ${nameProblem}`],
    ["id=all", `"id=all" ${nameProblem}`],
    [
      `id=${"a".repeat(33)}`,
      `"id=${"a".repeat(33)}" is too long: 33 bytes, at most 32 are possible`,
    ],
    [
      "mode=rw",
      '"mode=rw" is no octal number of three digits such as 0660',
    ],
    [
      "mode=0888",
      '"mode=0888" is no octal number of three digits such as 0660',
    ],
    [
      "mode=4755",
      '"mode=4755" is no octal number of three digits such as 0660',
    ],
    ["fd=2", '"fd=2" is no integer from 3 to 2147483647'],
    [
      `socket=${"s".repeat(108)}`,
      `"socket=${
        "s".repeat(108)
      }" is too long: 108 bytes, at most 107 are possible`,
    ],
    ["sokcet=a", '"sokcet" is no option (did you mean "socket"?)'],
  ];
  for (const [option, expected] of cases) {
    assertEquals(refusal(`path=a,${option}`), `--blk: ${expected}`);
  }
});

Deno.test("planDevices() refuses what two devices cannot both have", () => {
  assertEquals(
    refusal("path=a,id=x", "path=b,id=x"),
    'Two devices have the name "x"',
  );
  assertEquals(
    refusal("path=a,fd=7", "path=b,fd=7"),
    '"blk" and "blk1" cannot both use fd 7',
  );
  assertEquals(
    refusal("path=a,socket=d/../s.sock", `path=b,socket=${resolve("s.sock")}`),
    `"blk" and "blk1" cannot both listen on "${resolve("s.sock")}"`,
  );
});

Deno.test("planDevices() refuses to write an image twice, whatever its names", () => {
  const directory = Deno.makeTempDirSync();
  try {
    const image = `${directory}/a.img`;
    Deno.writeTextFileSync(image, "");
    Deno.symlinkSync(image, `${directory}/soft.img`);
    Deno.linkSync(image, `${directory}/hard.img`);
    for (const name of ["a.img", "soft.img", "hard.img"]) {
      const other = `path=${directory}/${name}`;
      assertStringIncludes(
        refusal(`path=${image}`, other),
        `"blk" and "blk1" cannot both write "${directory}/${name}"; add readonly=on to both, or share=on to both if`,
      );
      for (
        const lists of [
          [`path=${image},id=w`, `${other},id=r,readonly`],
          [`path=${image},id=r,readonly`, `${other},id=w`],
        ]
      ) {
        assertStringIncludes(
          refusal(...lists),
          `", which "w" writes; add readonly=on to both, or share=on to both if`,
        );
        assertStringIncludes(refusal(...lists), '"r" cannot use "');
      }
      plan(`path=${image}`, `${other},readonly,share`);
      plan(`path=${image},share`, `${other},readonly`);
      plan(`path=${image},readonly`, `${other},readonly`);
      plan(`path=${image}`, `${other},share`);
    }
    plan(`path=${directory}/absent`, `path=${directory}/absent`);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

/** What `--type KEYS` asks for. */
function ask(type: DeviceType, keys: string): DeviceRequest {
  return { subject: `--${type.name}`, type, pairs: splitOptions(keys) };
}

function lun(keys: string): PartRequest {
  return { subject: `--lun ${keys}`, pairs: splitOptions(keys) };
}

Deno.test("planDevices() gives logical units to the host that they name", () => {
  const [one, two] = planDevices([
    ask(SCSI, "id=one,path=a.img"),
    ask(SCSI, "socket=two.sock"),
  ], [
    lun("hba=one,target=1,path=b.img"),
    lun("hba=two.sock,target=2,lun=3,type=cdrom"),
    lun("hba=one,target=2,path=c.img,readonly"),
  ]);
  const places = ({ options }: PlannedDevice) =>
    (options.luns as Record<string, unknown>[]).map(
      ({ target, lun, path, type, readonly }) => [
        target,
        lun,
        path,
        type,
        readonly,
      ],
    );
  assertEquals(places(one), [
    [1, 0, "b.img", "disk", false],
    [2, 0, "c.img", "disk", true],
  ]);
  assertEquals(one.options.path, "a.img");
  assertEquals(places(two), [[2, 3, undefined, "cdrom", false]]);
  // The only one needs no name.
  const [only] = planDevices([ask(SCSI, "path=a.img")], [
    lun("target=7,path=b.img"),
  ]);
  assertEquals(places(only), [[7, 0, "b.img", "disk", false]]);
});

Deno.test("planDevices() refuses logical units that belong to nobody", () => {
  const cases: [DeviceRequest[], string, string][] = [
    [
      [ask(BLK, "path=a.img")],
      "path=b.img",
      "--lun path=b.img: there is no device that it could belong to: add --scsi",
    ],
    [
      [],
      "path=b.img",
      "--lun path=b.img: there is no device that it could belong to: add --scsi",
    ],
    [
      [ask(SCSI, "id=a"), ask(SCSI, "id=b")],
      "path=b.img",
      '--lun path=b.img: say which device this logical unit of a SCSI host belongs to: hba= one of "a", "b"',
    ],
    [
      [ask(SCSI, "id=a")],
      "hba=c,path=b.img",
      '--lun hba=c,path=b.img: "hba=c" is none of "a", nor a socket of theirs',
    ],
    [
      [ask(SCSI, "id=a,path=x.img")],
      "path=y.img",
      '--lun path=y.img: Cannot use target=0,lun=0: "x.img" has that place; choose another target= or lun=',
    ],
    [
      [ask(SCSI, "id=a")],
      "target=1",
      '--lun target=1: "path" is missing: add path=PATH',
    ],
    [
      [ask(SCSI, "id=a")],
      "target=1,pth=x",
      '--lun target=1,pth=x: "pth" is no option (did you mean "path"?)',
    ],
  ];
  for (const [requests, keys, message] of cases) {
    const error = assertThrows(
      () => planDevices(requests, [lun(keys)]),
      HostError,
      message,
    );
    assertEquals(error.kind, "usage");
  }
});

Deno.test("planDevices() puts the ports of a switch together", () => {
  const devices = planDevices([
    ask(NET, "backend=switch"),
    ask(NET, "backend=switch,name=lan1"),
    ask(NET, "backend=switch,name=lan0"),
    ask(NET, "backend=echo"),
  ]);
  assertEquals(
    devices.map(({ process, spec }) => [process, spec.workerGroup ?? null]),
    [
      ["switch-lan0", "switch-lan0"],
      ["switch-lan1", "switch-lan1"],
      ["switch-lan0", "switch-lan0"],
      [null, null],
    ],
  );
});

Deno.test("planDevices() refuses ports of one switch in two processes", () => {
  const plans = (...keys: string[]) =>
    planDevices(keys.map((each) => ask(NET, `backend=switch,${each}`)));
  const processes = (...keys: string[]) =>
    plans(...keys).map(({ process }) => process);
  assertEquals(processes("process=p", "process=p"), ["p", "p"]);
  assertEquals(processes("process=p", "name=b,process=q"), ["p", "q"]);
  const cases: [string[], string][] = [
    [["process=p", "process=q"], '"p" and "q"'],
    [["process=p", "name=lan0"], '"p" and "switch-lan0"'],
    [["id=net", "id=net1,process=q"], '"switch-lan0" and "q"'],
  ];
  for (const [keys, names] of cases) {
    const error = assertThrows(() => plans(...keys), HostError);
    assertEquals(
      [error.kind, error.message],
      [
        "usage",
        `"net" and "net1" cannot meet on the switch "lan0" from the processes ${names}: give both the same process=, or none`,
      ],
    );
  }
});

Deno.test("planDevices() knows which options are descriptors", () => {
  const devices = planDevices([
    ask(NET, "backend=tap,tapfd=7"),
    ask(NET, "backend=tap,ifname=tap0"),
  ]);
  assertEquals(
    devices.map(({ spec }) => [spec.options.tapfd, spec.descriptors]),
    [[7, ["tapfd"]], [undefined, undefined]],
  );
  for (const other of ["backend=tap,tapfd=7", "backend=echo,fd=7"]) {
    assertThrows(
      () => planDevices([ask(NET, "backend=tap,tapfd=7"), ask(NET, other)]),
      HostError,
      '"net" and "net1" cannot both use fd 7',
    );
  }
});

Deno.test("planDevices() lets hosts of one process share a disk", () => {
  using directory = TemporaryDirectory.make("specs");
  const image = directory.file("a.img");
  Deno.writeFileSync(image, new Uint8Array(512));
  const two = (more: string) => () =>
    planDevices([
      ask(SCSI, `path=${image}${more}`),
      ask(SCSI, `path=${image}${more}`),
    ]);
  assertEquals(two(",process=shared")().length, 2);
  assertThrows(two(""), HostError, "cannot both write");
  // Two places of one host: that is for the host to judge.
  const hosts = planDevices(
    [ask(SCSI, `path=${image},id=a`), ask(SCSI, "id=b")],
    [lun(`hba=a,target=1,path=${image}`)],
  );
  assertEquals(hosts.length, 2);
  const conflicts = [
    [
      ask(SCSI, `path=${image},process=p`),
      ask(BLK, `path=${image},process=p,id=r,readonly`),
    ],
    [ask(SCSI, `path=${image},id=r,readonly`), ask(SCSI, `path=${image}`)],
  ];
  for (const requests of conflicts) {
    assertThrows(
      () => planDevices(requests),
      HostError,
      `"r" cannot use "${image}", which "scsi" writes`,
    );
  }
});

Deno.test("planDevices() leaves a balloon alone", () => {
  assertThrows(
    () => planDevices([ask(BALLOON, "process=shared")]),
    HostError,
    '--balloon: "process=shared" is not possible for a virtio memory balloon',
  );
});
