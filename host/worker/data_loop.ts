/**
 * The loop of a data Worker: it runs the rings of one device, or of several that
 * share their state, and sleeps in one place.
 *
 * Theory of operation
 * -------------------
 * One turn does, in this order:
 *
 * 1. serve: each active ring gives up to {@linkcode BUDGET} chains to its
 *    device, or as many as that asks for. Small batches beat draining the ring:
 *    the driver sees the first completions while we work on the next ones.
 * 2. poll: each device submits what it prepared and completes what is done.
 * 3. publish: completions become visible, then the driver is notified where it
 *    asked for it.
 *
 * A turn without progress prepares for sleep: notifications are enabled on each
 * active ring and the ring is looked at once more (see
 * {@linkcode HostedDevice.rearm}). Before that the loop may look at the rings for
 * a while ({@linkcode PollingGovernor}), with notifications still off.
 *
 * Sleeping is one system call ({@linkcode Waiter}) over the kick descriptors
 * (edge-triggered, never read), the descriptors that devices watch, and the
 * control eventfd. A loop that does not get to sleep looks there now and then:
 * a kick for a ring that is not active must not wait for a busy one. The
 * main thread increments a shared counter before it signals that eventfd, so a
 * busy loop notices commands without a system call.
 *
 * Nothing here is concurrent: commands are handled between two calls of
 * {@linkcode DataLoop.run}.
 *
 * @module
 */

import { drainEventFd } from "../../sys/eventfd.ts";
import { SystemError } from "../../sys/errno.ts";
import { ticksOf } from "../../sys/clock.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { HostedDevice } from "./hosted_device.ts";
import { PULSE } from "./messages.ts";
import { PollingGovernor } from "./polling.ts";
import { UringWaiter } from "./uring_waiter.ts";
import { EpollWaiter, type Waiter } from "./waiter.ts";

/** How long the loop sleeps at most while a ring without kick descriptor runs, in ms. */
const POLL_INTERVAL = 1;
/**
 * How long the loop sleeps at most, in ms. Then it looks at everything once: a
 * wake-up that got lost costs seconds, and not the guest. More often would cost an
 * idle device processor time.
 */
const WATCHDOG = 5000;
/** A sleep as long as that, by the clock, which is not the kernel's timer. */
const WATCHDOG_TICKS = ticksOf(WATCHDOG - 1);
/** Looks at the rings between two looks at the clock. */
const LOOKS = 8;
/** Looks before the first one: a request that comes at once is worth no clock. */
const FIRST_LOOKS = 64;
/** A busy loop looks at what would wake it once in so many turns. */
const LOOK_INTERVAL = 16;
/** Token of the control eventfd; those of the other descriptors are above. */
const TOKEN_CONTROL = 0;

/** A descriptor that may wake the loop. */
interface Source {
  readonly fd: number;
  readonly ready: () => void;
  /** Has nothing to do with rings. */
  readonly aside: boolean;
}

/** Runs the rings of the devices of one thread. */
export class DataLoop implements Disposable {
  readonly #controlFd: number;
  readonly #posted: Int32Array;
  readonly #remainsFd: number;
  #waiter: Waiter;
  readonly #polling: PollingGovernor;
  readonly #devices: HostedDevice[] = [];
  readonly #sources = new Map<number, Source>();
  #nextToken = TOKEN_CONTROL + 1;
  #turns = 0;
  #missed = 0;
  #pulse = 1;
  #disposed = false;

  /**
   * @param controlFd eventfd that ends the sleep
   * @param posted shared counter of commands, and pulse, see `messages.ts`
   * @param waiter where to sleep (default: in epoll_wait)
   * @param polling how long to look before sleeping (default: not at all)
   * @param remainsFd a descriptor that the kernel is to keep open until the
   * requests of the ring have ended (default: none)
   */
  constructor(
    controlFd: number,
    posted: Int32Array,
    waiter: Waiter = new EpollWaiter(),
    polling: PollingGovernor = new PollingGovernor("off"),
    remainsFd: number = -1,
  ) {
    this.#remainsFd = remainsFd;
    this.#polling = polling;
    this.#controlFd = controlFd;
    this.#posted = posted;
    this.#waiter = waiter;
    waiter.add(controlFd, TOKEN_CONTROL);
  }

  /** Where the loop sleeps. */
  get waiter(): Waiter {
    return this.#waiter;
  }

  /**
   * Commands and rings with chains that a loop found which nothing had woken: 0,
   * unless a wake-up got lost, or a driver did not kick.
   */
  get missedWakeUps(): number {
    return this.#missed;
  }

  /**
   * The io_uring that the loop sleeps in from now on, for a device that has I/O
   * of its own; `null` where there is none to be had.
   *
   * @param refused told why, where the kernel has io_uring and yet refuses
   */
  useRing(refused: (error: SystemError) => void = () => {}): IoUring | null {
    if (this.#waiter.ring !== null || !IoUring.supported()) {
      return this.#waiter.ring;
    }
    let waiter: UringWaiter | null = null;
    try {
      waiter = new UringWaiter();
      if (this.#remainsFd >= 0) waiter.ring.registerFile(this.#remainsFd);
      waiter.add(this.#controlFd, TOKEN_CONTROL);
      for (const [token, { fd }] of this.#sources) waiter.add(fd, token);
    } catch (error) {
      waiter?.[Symbol.dispose]();
      if (!(error instanceof SystemError)) throw error;
      refused(error);
      return null;
    }
    this.#waiter[Symbol.dispose]();
    this.#waiter = waiter;
    return waiter.ring;
  }

  /** A place for a device. */
  host(slotsPerQueue: number): HostedDevice {
    const hosted: HostedDevice = new HostedDevice(
      this,
      slotsPerQueue,
      () => this.#devices.splice(this.#devices.indexOf(hosted), 1),
    );
    this.#devices.push(hosted);
    return hosted;
  }

  /**
   * Calls `ready` whenever `fd` becomes readable, and once if it is so now.
   *
   * @param aside true: it has nothing to do with rings, so looking at them instead
   * of sleeping could not have spared what wakes the loop for it
   * @returns a number for {@linkcode unwatch}
   * @throws {SystemError} when a descriptor of this kind cannot be watched
   */
  watch(fd: number, ready: () => void, aside = false): number {
    const token = this.#nextToken;
    this.#waiter.add(fd, token);
    this.#nextToken = token === 0xffff_ffff ? TOKEN_CONTROL + 1 : token + 1;
    this.#sources.set(token, { fd, ready, aside });
    return token;
  }

  /** Ends a watch: `ready` is not called any more, `fd` may be closed. */
  unwatch(token: number): void {
    const source = this.#sources.get(token);
    if (source === undefined) return;
    this.#sources.delete(token);
    this.#waiter.remove(source.fd);
  }

  /**
   * Serves until a command was posted.
   *
   * @param handled number of commands that were handled so far
   * @param once return after one turn and one sleep of at most 1 ms: somebody
   * waits for JavaScript's own event loop
   */
  run(handled: number, once = false): void {
    this.#publish();
    while (Atomics.load(this.#posted, 0) === handled) {
      if (this.#turn()) {
        // Others must not wait for a ring that is always busy.
        if (++this.#turns % LOOK_INTERVAL === 0) this.#sleep(0);
      } else if (!this.#look(handled)) {
        // The look may have taken the wake-up that came with a command.
        if (Atomics.load(this.#posted, 0) !== handled) break;
        if (!this.#rearm() && this.#sleep(once ? 1 : -1)) {
          this.#lookAtEverything(handled);
        }
        this.#disarm();
      }
      if (once) break;
    }
    this.#waiter.flush();
  }

  /**
   * One turn of all devices, and a short sleep if there was nothing to do: for
   * one who waits for requests to end.
   *
   * @param resting a device whose rings give no new chains meanwhile
   */
  turnWithout(resting: HostedDevice): void {
    if (!this.#turn(resting)) this.#sleep(POLL_INTERVAL);
  }

  /** One turn; true when there was progress. */
  #turn(resting: HostedDevice | null = null): boolean {
    const devices = this.#devices;
    let progress = false;
    this.#beat();
    for (let i = 0; i < devices.length; i++) {
      if (devices[i] !== resting && devices[i].serve()) progress = true;
    }
    for (let i = 0; i < devices.length; i++) {
      if (devices[i].poll()) progress = true;
    }
    for (let i = 0; i < devices.length; i++) devices[i].publishActive();
    return progress;
  }

  /** Looks at the active rings for a while; true when there is something to do. */
  #look(handled: number): boolean {
    const polling = this.#polling;
    if (!polling.enabled || !this.#active()) return false;
    if (polling.looking) {
      // What a turn prepared must not wait while the CPU does nothing else.
      this.#waiter.flush();
      for (let i = 0; i < FIRST_LOOKS; i++) {
        if (this.#pending(handled)) return true;
      }
    }
    if (!polling.begin()) return false;
    this.#waiter.flush();
    let round = 0;
    do {
      for (let i = 0; i < LOOKS; i++) {
        if (this.#waiter.ready) {
          this.#sleep(0);
          return true;
        }
        if (this.#pending(handled)) return true;
      }
      // A kick for a ring that is not active must not wait either.
      if (++round % LOOK_INTERVAL === 0) {
        this.#sleep(0);
        this.#publish();
      }
    } while (polling.goOn());
    return false;
  }

  #active(): boolean {
    const devices = this.#devices;
    for (let i = 0; i < devices.length; i++) {
      if (devices[i].active) return true;
    }
    return false;
  }

  /** Whether something came that a turn, or the caller, would deal with. */
  #pending(handled: number): boolean {
    if (Atomics.load(this.#posted, 0) !== handled) return true;
    const devices = this.#devices;
    for (let i = 0; i < devices.length; i++) {
      if (devices[i].pending) return true;
    }
    return false;
  }

  /** Prepares for sleep; true when there is something to do instead. */
  #rearm(): boolean {
    const devices = this.#devices;
    let again = false;
    for (let i = 0; i < devices.length; i++) {
      if (devices[i].rearm()) again = true;
    }
    return again;
  }

  /** Rings that are still active need no notifications again. */
  #disarm(): void {
    const devices = this.#devices;
    for (let i = 0; i < devices.length; i++) devices[i].disarm();
  }

  /** Sleeps; true when nothing happened for as long as the loop may sleep. */
  #sleep(limit: number): boolean {
    const polls = limit !== 0 && this.#pollsRings();
    const timeout = polls ? POLL_INTERVAL : limit < 0 ? WATCHDOG : limit;
    if (limit !== 0) {
      this.#posted[PULSE] = 0;
      this.#polling.sleeps();
    }
    const count = this.#waiter.wait(timeout);
    if (limit !== 0) {
      this.#polling.wakes();
      this.#beat();
    }
    let aside = count > 0;
    for (let i = 0; i < count; i++) {
      const token = this.#waiter.token(i);
      const source = this.#sources.get(token);
      if (source === undefined || !source.aside) aside = false;
      if (token === TOKEN_CONTROL) drainEventFd(this.#controlFd);
      else source?.ready();
    }
    if (limit !== 0) this.#polling.woken(aside);
    const devices = this.#devices;
    for (let i = 0; i < devices.length; i++) devices[i].woken();
    return count === 0 && limit !== 0 && this.#polling.sleptFor(WATCHDOG_TICKS);
  }

  /** The thread does not wait for anybody: others see that by its pulse. */
  #beat(): void {
    this.#pulse = (this.#pulse + 2) & 0x3fff_ffff;
    this.#posted[PULSE] = this.#pulse;
  }

  #pollsRings(): boolean {
    const devices = this.#devices;
    for (let i = 0; i < devices.length; i++) {
      if (devices[i].pollsRings) return true;
    }
    return false;
  }

  /** Nothing woke the loop: is there really nothing to do? */
  #lookAtEverything(handled: number): void {
    if (Atomics.load(this.#posted, 0) !== handled) this.#missed++;
    for (const device of this.#devices) this.#missed += device.lookAtAll();
  }

  /** Publishes what was completed outside of a turn, on whatever ring. */
  #publish(): void {
    const devices = this.#devices;
    for (let i = 0; i < devices.length; i++) devices[i].publish();
  }

  /** Closes all places of devices and gives the descriptors back. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const device of [...this.#devices]) device[Symbol.dispose]();
    this.#waiter[Symbol.dispose]();
  }
}
