/**
 * vtnet(4) of FreeBSD 10.4, 12.1, 13.2 and 15.1 against a served network device, through the
 * model of QEMU.
 */

import {
  FREEBSD_10_4,
  FREEBSD_12_1,
  FREEBSD_13_2,
  FREEBSD_15_1,
} from "../freebsd/releases.ts";
import type { Attachment } from "../freebsd/virtio_pci.ts";
import { runSteps } from "../step.ts";
import { type NetMachineOptions, VtnetMachine } from "./machine.ts";
import {
  attach,
  down,
  exchange,
  filters,
  healthy,
  lazyReaping,
  link,
  type NetStep,
  offloads,
  pairs,
  reload,
  up,
  watchdog,
  withoutLro,
} from "./steps.ts";

const LEGACY: Attachment = { modern: false, interrupts: "intx" };
const MODERN: Attachment = { modern: true, interrupts: "msix" };

/** What there is of it without a control queue. */
const PLAIN: readonly NetStep[] = [
  attach,
  up,
  exchange,
  lazyReaping,
  watchdog,
  offloads,
  down,
  up,
  exchange,
  link,
  healthy,
  withoutLro,
  offloads,
  exchange,
  down,
  up,
  down,
  up,
  healthy,
  reload,
  attach,
  up,
  exchange,
  healthy,
];

/** The same where the link, and the commands, are QEMU's affair. */
const WITHOUT_LINK: readonly NetStep[] = PLAIN.filter((step) => step !== link);

/** The life of an interface. */
const LIFE: readonly NetStep[] = [
  attach,
  up,
  exchange,
  lazyReaping,
  watchdog,
  offloads,
  down,
  up,
  exchange,
  filters,
  link,
  healthy,
  withoutLro,
  offloads,
  exchange,
  down,
  up,
  down,
  up,
  healthy,
  reload,
  attach,
  up,
  exchange,
  healthy,
];

const SCENARIOS: readonly (NetMachineOptions & {
  name: string;
  steps: readonly NetStep[];
})[] = [
  ...[FREEBSD_10_4, FREEBSD_12_1].flatMap((release) => [
    {
      name: `${release.name}, no control queue`,
      release,
      attachment: LEGACY,
      options: { ctrlVq: false },
      steps: PLAIN,
    },
    {
      name: `${release.name}, no control queue, unmerged: 34 clusters`,
      release,
      attachment: LEGACY,
      options: { ctrlVq: false, mrgRxbuf: false },
      steps: PLAIN,
    },
    {
      name: `${release.name}, no control queue, unmerged, no LRO`,
      release,
      attachment: LEGACY,
      options: {
        ctrlVq: false,
        mrgRxbuf: false,
        guestTso: false,
        guestUfo: false,
      },
      steps: PLAIN,
    },
  ]),
  ...[FREEBSD_10_4, FREEBSD_12_1, FREEBSD_13_2].flatMap((release) => [
    {
      name: `${release.name}, legacy, QEMU answers commands`,
      release,
      attachment: LEGACY,
      qemuAnswers: true,
      steps: WITHOUT_LINK,
    },
    {
      name: `${release.name}, legacy, unmerged, QEMU answers commands`,
      release,
      attachment: LEGACY,
      qemuAnswers: true,
      options: { mrgRxbuf: false },
      steps: WITHOUT_LINK,
    },
  ]),
  {
    name: "12.1, legacy, 4 pairs, 2 processors, QEMU answers commands",
    release: FREEBSD_12_1,
    attachment: LEGACY,
    qemuAnswers: true,
    pairs: 4,
    cpus: 2,
    steps: [attach, up, pairs, exchange, down, up, pairs, healthy],
  },
  {
    name: "15.1, modern, 2 pairs, 2 processors, QEMU answers commands",
    release: FREEBSD_15_1,
    attachment: MODERN,
    qemuAnswers: true,
    pairs: 2,
    cpus: 2,
    steps: [attach, up, pairs, exchange, down, up, pairs, healthy],
  },
  {
    name: "13.2, legacy (a transitional device), INTx",
    release: FREEBSD_13_2,
    attachment: LEGACY,
    steps: LIFE,
  },
  {
    name: "13.2, legacy, unmerged: header and data apart, 34 clusters",
    release: FREEBSD_13_2,
    attachment: LEGACY,
    options: { mrgRxbuf: false },
    steps: LIFE,
  },
  {
    name: "13.2, legacy, unmerged, no LRO: buffers of 2 KiB",
    release: FREEBSD_13_2,
    attachment: LEGACY,
    options: { mrgRxbuf: false, guestTso: false, guestUfo: false },
    steps: LIFE,
  },
  {
    name: "15.1, modern, MSI-X",
    release: FREEBSD_15_1,
    attachment: MODERN,
    steps: LIFE,
  },
  {
    name: "15.1, modern, unmerged",
    release: FREEBSD_15_1,
    attachment: MODERN,
    options: { mrgRxbuf: false, guestTso: false, guestUfo: false },
    steps: LIFE,
  },
  {
    name: "15.1, modern, without indirect descriptors",
    release: FREEBSD_15_1,
    attachment: MODERN,
    indirect: false,
    steps: [attach, up, exchange, watchdog, offloads, down, up, healthy],
  },
  {
    name: "15.1, modern, 4 pairs, 2 processors: all of them are set up",
    release: FREEBSD_15_1,
    attachment: MODERN,
    pairs: 4,
    cpus: 2,
    steps: [attach, up, pairs, exchange, down, up, pairs, healthy],
  },
  {
    name: "15.1, modern, 3 pairs, 1 processor: no command says so",
    release: FREEBSD_15_1,
    attachment: MODERN,
    pairs: 3,
    steps: [attach, up, pairs, exchange, filters, healthy],
  },
];

for (const { name, steps, ...options } of SCENARIOS) {
  Deno.test(`FreeBSD vtnet(4) ${name}`, async (test) => {
    await using machine = await VtnetMachine.start(options);
    await runSteps(test, machine, steps);
  });
}
