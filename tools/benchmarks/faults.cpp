// SPDX-License-Identifier: Apache-2.0
// What post-copy costs a destination's memory: arming, a page fault until its answer, placing.
#include "tools/benchmarks/benchmarks.hpp"
#include "tools/quantities.hpp"
#include "vmm/userfault_source.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <fcntl.h>
#include <unistd.h>

namespace wherry::tools {

namespace {

using formats::ErrorCode;
using formats::fail;
using formats::PageCount;
using formats::PageRange;
using formats::Result;
using formats::Status;
using Clock = std::chrono::steady_clock;

struct FaultsOptions {
    std::string memory = "2G";
    std::uint64_t missing = 200'000;
    std::uint64_t touches = 20'000;
    unsigned runs = 5;
};

double microseconds_since(Clock::time_point begun) {
    return std::chrono::duration<double, std::micro>{Clock::now() - begun}.count();
}

std::vector<std::byte> contents(PageCount pages) {
    return std::vector<std::byte>(formats::bytes_of(pages).value(), std::byte{0x5a});
}

/// As a receiver does: through the file, all of it.
Status fill(const vmm::GuestMemory& memory) {
    constexpr PageCount batch{512};
    const auto bytes = contents(batch);
    for (std::uint64_t at = 0; at < memory.size().value(); at += bytes.size()) {
        const auto offset = static_cast<off_t>(at);
        if (::pwrite(memory.file(), bytes.data(), bytes.size(), offset) < 0) {
            return fail(formats::system_error(errno, "filling guest memory"));
        }
    }
    return {};
}

/// So many pages at random places, as runs in ascending order.
std::vector<PageRange> at_random(const vmm::GuestMemory& memory, std::uint64_t count) {
    const PageRange all = memory.regions()[0].pages;
    std::vector<std::uint64_t> numbers(all.count().value());
    std::iota(numbers.begin(), numbers.end(), 0U);
    std::ranges::shuffle(numbers, std::mt19937_64{1});
    numbers.resize(std::min<std::size_t>(numbers.size(), count));
    std::ranges::sort(numbers);
    std::vector<PageRange> runs;
    for (std::size_t begin = 0; begin < numbers.size();) {
        std::size_t end = begin + 1;
        while (end < numbers.size() && numbers[end] == numbers[begin] + (end - begin)) {
            ++end;
        }
        runs.push_back(
            all.part(PageCount{numbers[begin]}, PageCount{numbers[begin] + (end - begin)}));
        begin = end;
    }
    return runs;
}

/// What taking stale contents away would cost instead; the memory is of no use afterwards.
Result<double> punch(const vmm::GuestMemory& memory, std::span<const PageRange> runs) {
    const auto begun = Clock::now();
    for (const PageRange run : runs) {
        const auto at = formats::gpa_of(run.first()).value();
        const auto size = formats::bytes_of(run.count()).value();
        if (::fallocate(
                memory.file(),
                FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(at),
                static_cast<off_t>(size)) != 0) {
            return fail(formats::system_error(errno, "punching holes in guest memory"));
        }
    }
    return microseconds_since(begun) / 1000;
}

/// Answers each wanted page at once, on a thread as a session has one.
class Answers final : public vmm::FaultListener {
public:
    explicit Answers(vmm::FaultSource& source)
        : source_{source},
          thread_{[this] {
              work();
          }} {}
    Answers(const Answers&) = delete;
    Answers& operator=(const Answers&) = delete;
    ~Answers() {
        {
            const std::scoped_lock held{lock_};
            ends_ = true;
        }
        changed_.notify_all();
        thread_.join();
    }
    void wanted(PageRange pages) noexcept override {
        const std::scoped_lock held{lock_};
        queue_.push_back(pages);
        changed_.notify_all();
    }
    Status outcome() {
        const std::scoped_lock held{lock_};
        return outcome_;
    }

private:
    void work() {
        std::unique_lock held{lock_};
        while (true) {
            changed_.wait(held, [this] { return ends_ || !queue_.empty(); });
            if (queue_.empty()) {
                return;
            }
            const PageRange pages = queue_.front();
            queue_.pop_front();
            held.unlock();
            const auto placed = source_.place(pages, contents(pages.count()));
            held.lock();
            if (!placed && outcome_) {
                outcome_ = fail(placed.error());
            }
        }
    }

    vmm::FaultSource& source_;
    std::mutex lock_;
    std::condition_variable changed_;
    std::deque<PageRange> queue_;
    bool ends_ = false;
    Status outcome_;
    std::thread thread_;
};

/// Microseconds of each first touch of pages that `wanted` chooses, ascending.
std::vector<double>
touch(const vmm::GuestMemory& memory, std::span<const PageRange> runs, std::uint64_t most) {
    std::vector<double> times;
    for (const PageRange run : runs) {
        if (times.size() == most) {
            break;
        }
        std::byte one{};
        const auto begun = Clock::now();
        if (memory.read(formats::gpa_of(run.first()), std::span{&one, 1})) {
            times.push_back(microseconds_since(begun));
        }
    }
    std::ranges::sort(times);
    return times;
}

/// The pages just before each run that are not missing.
std::vector<PageRange> neighbours(const vmm::GuestMemory& memory, std::span<const PageRange> runs) {
    std::vector<PageRange> found;
    formats::Gfn end = memory.regions()[0].pages.first();
    for (const PageRange run : runs) {
        if (run.first() > end) {
            const PageCount before = run.first() - memory.regions()[0].pages.first();
            found.push_back(memory.regions()[0].pages.part(before - PageCount{1}, before));
        }
        end = run.end();
    }
    return found;
}

double percentile(std::span<const double> ascending, double part) {
    if (ascending.empty()) {
        return 0;
    }
    return ascending[static_cast<std::size_t>(part * static_cast<double>(ascending.size() - 1))];
}

/// In the order in which they are printed.
constexpr std::array names{
    "arm_ms", "fault_p50_us", "fault_p99_us", "present_p50_us", "place_us_per_page", "punch_ms"};
using Figures = std::array<double, names.size()>;

Result<Figures> measure(const FaultsOptions& options) {
    const auto size = parse_size(options.memory);
    if (!size) {
        return fail(size.error());
    }
    auto memory = vmm::GuestMemory::create(*size);
    if (!memory) {
        return fail(memory.error());
    }
    if (auto filled = fill(*memory); !filled) {
        return fail(filled.error());
    }
    const auto missing = at_random(*memory, options.missing);
    std::vector<formats::PageBitmap> bitmaps;
    for (const auto& region : memory->regions()) {
        bitmaps.emplace_back(region.pages);
    }
    for (const PageRange run : missing) {
        bitmaps.front().set(run);
    }
    auto source = vmm::UserfaultSource::open(*memory);
    if (!source) {
        return fail(source.error());
    }
    Answers answers{**source};
    Figures figures{};
    auto begun = Clock::now();
    const auto armed = (*source)->arm(bitmaps, answers, vmm::MemoryBefore::used);
    if (!armed) {
        return fail(armed.error());
    }
    figures[0] = microseconds_since(begun) / 1000;
    const auto present = touch(*memory, neighbours(*memory, missing), options.touches);
    const auto faults = touch(*memory, missing, options.touches);
    figures[1] = percentile(faults, 0.5);
    figures[2] = percentile(faults, 0.99);
    figures[3] = percentile(present, 0.5);
    const PageCount left = (*source)->missing();
    begun = Clock::now();
    for (const PageRange run : (*source)->missing_pages()) {
        if (const auto placed = (*source)->place(run, contents(run.count())); !placed) {
            return fail(placed.error());
        }
    }
    figures[4] =
        microseconds_since(begun) / static_cast<double>(std::max<std::uint64_t>(1, left.value()));
    if (auto disarmed = (*source)->disarm(); !disarmed) {
        return fail(disarmed.error());
    }
    const auto punched = punch(*memory, missing);
    if (!punched) {
        return fail(punched.error());
    }
    figures[5] = *punched;
    const auto outcome = answers.outcome();
    return outcome ? Result<Figures>{figures} : fail(outcome.error());
}

void print_figures(std::string_view label, const Figures& figures) {
    std::string text = fmt::format("{{\"run\":\"{}\"", label);
    for (std::size_t i = 0; i < names.size(); ++i) {
        text += fmt::format(",\"{}\":{:.2f}", names[i], figures[i]);
    }
    fmt::print("{}}}\n", text);
}

ExitCode measure_faults(const FaultsOptions& options) {
    std::array<std::vector<double>, names.size()> all;
    for (unsigned run = 1; run <= options.runs; ++run) {
        const auto figures = measure(options);
        if (!figures) {
            return fail_with(figures.error());
        }
        print_figures(fmt::format("{}", run), *figures);
        for (std::size_t i = 0; i < names.size(); ++i) {
            all[i].push_back((*figures)[i]);
        }
    }
    Figures medians{};
    std::ranges::transform(all, medians.begin(), [](const auto& values) { return median(values); });
    print_figures("median", medians);
    return ExitCode::done;
}

} // namespace

void add_faults(CLI::App& app, ExitCode& outcome) {
    const auto options = std::make_shared<FaultsOptions>();
    auto* command = app.add_subcommand("faults", "Pages that arrive after the guest runs");
    command->add_option("--memory", options->memory, "RAM of the guest, 3G at most (2G)");
    command->add_option("--missing", options->missing, "Pages missing, at random (200000)")
        ->check(CLI::Range(1, 1 << 20U));
    command->add_option("--touches", options->touches, "Pages touched of each kind (20000)")
        ->check(CLI::Range(1, 1 << 20U));
    command->add_option("--runs", options->runs, "How often (5)")->check(CLI::Range(1, 1000));
    command->callback([options, &outcome] { outcome = measure_faults(*options); });
}

} // namespace wherry::tools
