// SPDX-License-Identifier: Apache-2.0
// Where every CPU arrives from boot.S, in the ring it will stay in.
#include "tests/guests/boot_info.hpp"
#include "tests/guests/descriptors.hpp"
#include "tests/guests/generation.hpp"
#include "tests/guests/lapic.hpp"
#include "tests/guests/serial.hpp"
#include "tests/guests/text.hpp"
#include "tests/guests/worker.hpp"

extern "C" {
extern char __image_end[];
extern const char trampoline_begin[];
extern const char trampoline_end[];
extern std::uint64_t starting_cpu_block;
}

namespace wherry::guest {

namespace {

constexpr std::uint32_t trampoline_page = 8; // 0x8000

constinit Setup setup{};
std::uint32_t cpus_online;
std::uint32_t cpus_filled;
bool all_filled;

[[noreturn]] void refuse(std::string_view cause, std::string_view remedy) noexcept {
    Line line("fatal setup");
    line.text(": ").text(cause).text("; ").text(remedy);
    serial::drain();
    serial::write_now(line.finish());
    end_vm(exit_setup_failed);
}

void note_unknown(std::string_view token) noexcept {
    serial::queue(Line("warning unknown option ignored:").text(" ").text(token).finish());
}

void read_options() noexcept {
    const auto problem = parse_options(boot_info.command(), setup.options, note_unknown);
    if (!problem.remedy.empty()) {
        Line cause("");
        cause.text(problem.token).text(": expected ").text(problem.remedy);
        auto text = cause.finish();
        text.remove_prefix(std::string_view{"wherry-guest "}.size());
        text.remove_suffix(1);
        refuse(text, "correct the command line");
    }
    setup.mix = {setup.options.zero_percent, setup.options.compressible_percent};
    const auto told = boot_info.facts.tsc_khz;
    setup.tsc_khz = told != 0 ? told : setup.options.tsc_khz;
    if (setup.tsc_khz == 0) {
        refuse("TSC frequency unknown", "offer CPUID 0x40000010 or 0x15, or pass tsc_khz=");
    }
}

void lay_out_memory() noexcept {
    constexpr std::string_view remedy = "give the VM more RAM in one piece above 1 MiB";
    auto& pages = setup.pages;
    if (!read_memory_map()) {
        refuse("no memory map in hvm_start_info", "pass version 1 with memmap");
    }
    if (!pages.start(boot_info.ranges(), reinterpret_cast<std::uint64_t>(__image_end))) {
        refuse("the image does not end in usable RAM", remedy);
    }
    if (!map_all(pages)) {
        refuse("no room for page tables, or RAM above 512 GiB", remedy);
    }
    const auto cpu_count = setup.options.cpu_count;
    const auto all = pages.ram_bytes() / page_bytes;
    const auto hot = setup.options.hot_bytes / page_bytes;
    setup.hot_capacity = static_cast<std::uint32_t>((hot < all ? hot : all) / cpu_count);
    const auto hot_bytes = std::uint64_t{setup.hot_capacity} * cpu_count * sizeof(std::uint32_t);
    const auto blocks = all / VersionLedger::block_pages + 1;
    setup.versions = static_cast<std::uint32_t*>(pages.allocate(all * sizeof(std::uint32_t)));
    setup.sums = static_cast<std::uint64_t*>(pages.allocate(blocks * sizeof(std::uint64_t)));
    setup.hot_pages = static_cast<std::uint32_t*>(pages.allocate(hot_bytes));
    if (setup.versions == nullptr || setup.sums == nullptr || setup.hot_pages == nullptr) {
        refuse("no room for the version table", remedy);
    }
    pages.close();
}

void choose_idle() noexcept {
    const auto mode = setup.options.idle;
    const auto& facts = boot_info.facts;
    const bool has_lapic = facts.has_lapic && !facts.is_soft;
    const bool several = setup.options.cpu_count > 1;
    // CPU engines without interrupts may still claim a LAPIC in CPUID; ring 0 is their sign.
    const bool automatic = mode == IdleMode::automatic && has_lapic && work_ring == 3;
    if (mode != IdleMode::halt && !automatic && !several) {
        return;
    }
    if (!has_lapic) {
        refuse("idle=hlt and cpus= need a local APIC", "use idle=spin and cpus=1");
    }
    lapic::select(setup.options.apic, setup.tsc_khz);
    lapic::enable_local();
    const bool works = mode != IdleMode::spin && lapic::timer_works();
    if (mode == IdleMode::halt && !works) {
        refuse("the LAPIC timer does not interrupt", "use idle=spin");
    }
    setup.may_halt = works;
    if (works) { // else no interrupt ever comes in
        generation::watch();
    }
}

void start_cpu(std::uint32_t number) noexcept {
    auto& block = cpu_blocks[number];
    block.number = number;
    starting_cpu_block = reinterpret_cast<std::uint64_t>(&block);
    lapic::send_init(number);
    spin_for(10'000, setup.tsc_khz);
    for (int attempt = 0; attempt < 2; ++attempt) {
        lapic::send_startup(number, trampoline_page);
        for (int i = 0; i < 1000; ++i) {
            if (__atomic_load_n(&cpus_online, __ATOMIC_ACQUIRE) == number) {
                return;
            }
            spin_for(1000, setup.tsc_khz);
        }
    }
    refuse("a CPU did not start after INIT and SIPI", "give the VM as many vCPUs as cpus= says");
}

void start_other_cpus() noexcept {
    const auto bytes = static_cast<std::size_t>(trampoline_end - trampoline_begin);
    auto* target = page_at(trampoline_page);
    __builtin_memcpy(target, trampoline_begin, bytes);
    for (std::uint32_t i = 1; i < setup.options.cpu_count; ++i) {
        start_cpu(i);
    }
}

void announce_boot() noexcept {
    Line line("boot");
    line.field("ring", work_ring).field("ring0_tsc", boot_info.facts.ring0_tsc);
    line.field("tsc", read_tsc()).field("cmdline", "\"").text(boot_info.command()).text("\"");
    serial::queue(line.finish());
    serial::drain();
}

void announce_ready(std::uint64_t fill_ticks) noexcept {
    std::uint64_t hot = 0;
    std::uint64_t bytes = 0;
    for (const auto& worker : workers) {
        hot += worker.hot_count();
        bytes += worker.bytes_filled();
    }
    const auto fill_us = fill_ticks * 1000 / setup.tsc_khz;
    Line line("ready");
    line.field("pages", setup.pages.page_count()).field("ram", setup.pages.ram_bytes());
    line.field("cpus", setup.options.cpu_count).field("tsc_khz", setup.tsc_khz);
    line.field("ring", work_ring).field("hot_pages", hot);
    line.field("idle", setup.may_halt ? lapic::description() : "spin");
    line.field("fill_us", fill_us).field("fill_mb_s", bytes / (fill_us == 0 ? 1 : fill_us));
    serial::queue(line.finish());
    serial::drain();
}

void work_as(std::uint32_t number) noexcept {
    const auto begin = read_tsc();
    workers[number].fill(setup, number);
    __atomic_add_fetch(&cpus_filled, 1, __ATOMIC_ACQ_REL);
    if (number == 0) {
        while (__atomic_load_n(&cpus_filled, __ATOMIC_ACQUIRE) != setup.options.cpu_count) {
            relax();
        }
        announce_ready(read_tsc() - begin);
        __atomic_store_n(&all_filled, true, __ATOMIC_RELEASE);
    }
    while (!__atomic_load_n(&all_filled, __ATOMIC_ACQUIRE)) {
        relax();
    }
    workers[number].run();
}

} // namespace

extern "C" [[noreturn]] void cpu_main(Cpu* cpu) noexcept {
    if (cpu->number == 0) {
        serial::initialise();
        announce_boot();
        read_options();
        lay_out_memory();
        choose_idle();
        start_other_cpus();
    } else {
        if (setup.may_halt) {
            lapic::enable_local();
        }
        __atomic_store_n(&cpus_online, cpu->number, __ATOMIC_RELEASE);
    }
    work_as(cpu->number);
    __builtin_unreachable();
}

} // namespace wherry::guest
