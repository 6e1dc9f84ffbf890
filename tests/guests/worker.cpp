// SPDX-License-Identifier: Apache-2.0
#include "tests/guests/worker.hpp"

#include "tests/guests/lapic.hpp"
#include "tests/guests/serial.hpp"

namespace wherry::guest {

constinit std::array<Worker, max_cpus> workers;

namespace {

constexpr unsigned pages_per_turn = 8;    // of each kind
constexpr std::uint64_t turn_us = 50;     // a turn begins no more pages after this
constexpr std::size_t bytes_per_turn = 4; // each costs an exit to the VMM

} // namespace

void TokenBucket::start(
    std::uint64_t rate, std::uint32_t tsc_khz, std::uint32_t cpu_count) noexcept {
    rate_ = rate;
    page_credit_ = std::uint64_t{tsc_khz} * 1000 * cpu_count;
    longest_ticks_ = std::uint64_t{tsc_khz} * 20;
}

void TokenBucket::refill(std::uint64_t ticks) noexcept {
    if (rate_ == unlimited_rate || rate_ == 0) {
        return;
    }
    const auto most = longest_ticks_ * rate_ + page_credit_;
    credit_ += (ticks < longest_ticks_ ? ticks : longest_ticks_) * rate_;
    credit_ = credit_ < most ? credit_ : most;
}

bool TokenBucket::take() noexcept {
    if (rate_ == unlimited_rate) {
        return true;
    }
    if (credit_ < page_credit_) {
        return false;
    }
    credit_ -= page_credit_;
    return true;
}

void Worker::fill(const Setup& setup, std::uint32_t number) noexcept {
    setup_ = &setup;
    number_ = number;
    const auto pages = setup.pages.page_count();
    const auto cpu_count = setup.options.cpu_count;
    constexpr auto block = VersionLedger::block_pages;
    const auto blocks = (std::uint64_t{pages} + block - 1) / block;
    const auto bound = [&](std::uint32_t cpu) {
        const auto at = blocks * cpu / cpu_count * block;
        return at < pages ? static_cast<std::uint32_t>(at) : pages;
    };
    first_ = bound(number);
    end_ = bound(number + 1);
    sweep_at_ = first_;
    random_state_ = number + 1;
    hot_ = setup.hot_pages + std::uint64_t{setup.hot_capacity} * number;
    ledger_.start(setup.versions, setup.sums, first_, end_);
    for (auto index = first_; index < end_; ++index) {
        auto content = content_of(index);
        if (content.kind == PageClass::zero) {
            if (setup.options.touch_zero) {
                write_page(page_at(content.gfn), content);
                bytes_filled_ += page_bytes;
            }
            continue;
        }
        content.version = ledger_.advance(index);
        write_page(page_at(content.gfn), content);
        bytes_filled_ += page_bytes;
    }
    choose_hot_pages();
}

void Worker::choose_hot_pages() noexcept {
    const auto slice = end_ - first_;
    const auto stride = setup_->options.layout == HotLayout::spread && setup_->hot_capacity != 0
                            ? slice / setup_->hot_capacity
                            : 1;
    auto next_allowed = first_;
    for (auto index = first_; index < end_ && hot_count_ < setup_->hot_capacity; ++index) {
        if (index >= next_allowed && content_of(index).kind != PageClass::zero) {
            hot_[hot_count_++] = index;
            next_allowed += stride == 0 ? 1 : stride;
        }
    }
}

void Worker::run() noexcept {
    const auto& options = setup_->options;
    dirty_tokens_.start(options.dirty_rate, setup_->tsc_khz, options.cpu_count);
    check_tokens_.start(options.check_rate, setup_->tsc_khz, options.cpu_count);
    start_ = read_tsc();
    now_ = start_;
    next_report_ = start_ + options.report_ms * setup_->tsc_khz;
    while (true) {
        turn();
    }
}

void Worker::turn() noexcept {
    observe_clock();
    check_tables();
    const bool busy = work();
    inject_fault();
    report_if_due();
    end_if_due();
    const bool output_waits = serial::pump(bytes_per_turn);
    ++counters_.turns;
    if (!busy) {
        rest(output_waits);
    }
}

void Worker::observe_clock() noexcept {
    const auto before = now_;
    now_ = read_tsc();
    if (now_ < before) {
        ++gaps_.backward;
        ++counters_.errors;
        Mismatch step{"clock", 0, before, now_, 0};
        report_page_error(step, {});
        return;
    }
    const auto gap = now_ - before;
    gaps_.since_report = gap > gaps_.since_report ? gap : gaps_.since_report;
    if (gap > gaps_.ever) {
        gaps_.ever = gap;
        gaps_.ever_at = elapsed();
    }
    gaps_.long_ones += gap > std::uint64_t{setup_->tsc_khz} * 5 ? 1U : 0U;
    dirty_tokens_.refill(gap);
    check_tokens_.refill(gap);
}

void Worker::check_tables() noexcept {
    for (const auto& finding : {ledger_.check_witness(), ledger_.check_next_block()}) {
        if (!finding.kind.empty()) {
            ++counters_.errors;
            report_table_error(finding);
        }
    }
}

/// True: there may be more to do at once.
bool Worker::work() noexcept {
    const auto latest = now_ + turn_us * setup_->tsc_khz / 1000;
    bool more_to_dirty = hot_count_ != 0;
    bool more_to_check = first_ != end_;
    for (unsigned i = 0; i < pages_per_turn && (more_to_dirty || more_to_check); ++i) {
        more_to_dirty = more_to_dirty && dirty_tokens_.take();
        if (more_to_dirty) {
            dirty_page(next_hot());
        }
        more_to_check = more_to_check && check_tokens_.take() && check_next();
        if (read_tsc() > latest) {
            break;
        }
    }
    return more_to_dirty || more_to_check;
}

/// The old content is checked first: a page that lost an update must not be healed by the next one.
void Worker::dirty_page(std::uint32_t index) noexcept {
    check_page(index);
    auto content = content_of(index);
    content.version = ledger_.advance(index);
    write_page(page_at(content.gfn), content);
    ++counters_.dirtied;
}

void Worker::check_page(std::uint32_t index) noexcept {
    const auto content = content_of(index);
    auto* page = page_at(content.gfn);
    ++counters_.checked;
    if (!page_matches(page, content)) [[unlikely]] {
        ++counters_.errors;
        report_page_error(explain_mismatch(page, content), content);
        write_page(page, content); // so that every damage counts once
    }
}

/// Checks the next page of the sweep. False: the whole slice has nothing to check.
bool Worker::check_next() noexcept {
    for (auto skipped = first_; skipped < end_; ++skipped) {
        const auto index = sweep_at_++;
        if (sweep_at_ == end_) {
            sweep_at_ = first_;
            ++counters_.sweeps;
        }
        const bool wanted = setup_->options.check_zero || content_of(index).kind != PageClass::zero;
        if (wanted) {
            check_page(index);
            return true;
        }
    }
    return false;
}

void Worker::rest(bool output_waits) noexcept {
    if (output_waits) {
        return;
    }
    if (setup_->may_halt) {
        ++counters_.halts;
        lapic::wait(setup_->options.tick_us);
        return;
    }
    for (unsigned i = 0; i < 64; ++i) {
        relax();
    }
}

PageContent Worker::content_of(std::uint32_t index) const noexcept {
    const auto gfn = setup_->pages.gfn_of(index);
    return {gfn, ledger_.version(index), setup_->mix.class_of(gfn)};
}

std::uint32_t Worker::next_hot() noexcept {
    if (setup_->options.order == HotOrder::sequential) {
        hot_at_ = hot_at_ + 1 < hot_count_ ? hot_at_ + 1 : 0;
        return hot_[hot_at_];
    }
    random_state_ = random_state_ * 6364136223846793005 + 1442695040888963407;
    return hot_[((random_state_ >> 32) * hot_count_) >> 32];
}

std::uint64_t Worker::microseconds(std::uint64_t ticks) const noexcept {
    return ticks / setup_->tsc_khz * 1000 + ticks % setup_->tsc_khz * 1000 / setup_->tsc_khz;
}

} // namespace wherry::guest
