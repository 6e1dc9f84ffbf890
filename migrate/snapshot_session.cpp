// SPDX-License-Identifier: Apache-2.0
#include "migrate/snapshot_session.hpp"

#include "migrate/detail/held_pages.hpp"
#include "migrate/detail/precopy_rounds.hpp"
#include "migrate/image/guest_image.hpp"
#include "migrate/image/image_increment.hpp"
#include "migrate/stopped_guest.hpp"
#include "vmm/saved_state.hpp"

#include <cstddef>
#include <utility>
#include <vector>

#include <boost/asio/thread_pool.hpp>
#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using formats::Bytes;
using formats::ErrorCode;
using formats::fail;
using formats::PageCount;
using formats::PageRange;
using formats::Phase;
using formats::Result;
using formats::Status;
using transport::Task;
using Clock = Progress::Clock;

constexpr PageCount pages_per_copy = formats::raw_pages_per_batch;
/// Between two looks at whether it is to be cancelled, and two counts of what was done.
constexpr PageCount pages_per_step = pages_per_copy * 16;
/// Of the last pages, beside those that are known: dirtied until the guest stands still.
constexpr Bytes late_pages = formats::operator""_MiB(8);

std::unexpected<formats::Error> cancelled() {
    return fail(ErrorCode::cancelled, "the snapshot was cancelled");
}

/// One snapshot under way: see run_snapshot.
class SnapshotSession {
public:
    SnapshotSession(
        vmm::Machine& machine,
        SnapshotOptions options,
        std::unique_ptr<ImageSink> sink,
        CancelGate& gate,
        Observer& observer)
        : machine_{machine},
          options_{std::move(options)},
          sink_{std::move(sink)},
          gate_{gate},
          worker_{1},
          progress_{observer, machine.memory().size(), options_.policy.downtime},
          rounds_{machine, options_.policy, progress_, worker_.get_executor()} {
        copy_.resize(formats::bytes_of(pages_per_copy).value());
    }

    Task<SnapshotOutcome> run() {
        auto ended = co_await write();
        co_return co_await conclude(std::move(ended));
    }

private:
    template <typename Call>
    auto on_worker(Call call) {
        return transport::offload(worker_.get_executor(), std::move(call));
    }

    Task<void> write() {
        const bool runs = machine_.running_state() == vmm::RunningState::running;
        options_.description.plan.stays_paused = !runs;
        auto read_base = [this] {
            return options_.base ? look_at_base() : Status{};
        };
        auto step = co_await on_worker(read_base);
        if (!step) {
            co_return step;
        }
        step = runs && options_.way == SnapshotWay::live ? co_await write_live()
                                                         : co_await write_paused();
        if (!step) {
            co_return step;
        }
        auto add_state = [this]() -> Status {
            const auto encoded = vmm::encode(*state_);
            return encoded ? writer_->add_machine_state(*encoded) : fail(encoded.error());
        };
        step = co_await on_worker(add_state);
        if (!step) {
            co_return step;
        }
        if (!gate_.close()) {
            co_return cancelled();
        }
        auto finish = [this] {
            return writer_->finish();
        };
        step = co_await on_worker(finish);
        if (step) {
            progress_.add_wire(sink_->written() - told_); // nobody else writes to it any more
        }
        co_return step;
    }

    /// On the worker.
    Status look_at_base() {
        auto increment = ImageIncrement::on(*options_.base, machine_.memory(), options_.image);
        if (!increment) {
            return fail(std::move(increment).error());
        }
        increment_ = *std::move(increment);
        return {};
    }

    Task<void> write_paused() {
        progress_.enter(Phase::stop_and_copy);
        auto step = co_await stop_guest();
        if (!step) {
            co_return step;
        }
        auto look = [this] {
            return dirtylog::DirtySet::populated(machine_.memory());
        };
        auto pages = co_await on_worker(look);
        if (!pages) {
            co_return fail(std::move(pages).error());
        }
        step = co_await begin(*pages, GivenPages::once);
        if (step) {
            step = co_await write_round(*pages);
        }
        if (!step) {
            co_return step;
        }
        progress_.blackout().pages = progress_.now() - stopped_at_;
        step = co_await save_state();
        if (!step) {
            co_return step;
        }
        co_return co_await go_on();
    }

    Task<void> write_live() {
        progress_.enter(Phase::precopy);
        auto step = co_await rounds_.start();
        if (step) {
            step = co_await begin(rounds_.dirty(), GivenPages::again);
        }
        while (step) {
            step = co_await write_round(rounds_.dirty());
            if (step) {
                step = co_await rounds_.collect();
            }
            if (step) {
                step = check_guest();
            }
            if (!step) {
                break;
            }
            const auto decision = judge();
            if (!decision) {
                co_return fail(decision.error());
            }
            if (*decision != Decision::again) {
                co_return co_await write_rest();
            }
        }
        co_return step;
    }

    Result<Decision> judge() {
        RoundObservation seen;
        // The guest waits for copies only, and not for the disk.
        seen.wire_bytes = formats::bytes_of(copied_);
        seen.duration = copying_;
        seen.sent = copied_;
        seen.fixed_cost = options_.fixed_cost;
        const Decision decision = rounds_.judge(seen, round_took_, rounds_.dirty().count());
        if (decision == Decision::give_up) {
            return fail(
                ErrorCode::wrong_state,
                fmt::format(
                    "the snapshot does not converge: {}, --paused stops the guest for all of it",
                    rounds_.convergence().explain(progress_.snapshot().dirty_rate)));
        }
        return decision;
    }

    /// The guest stands still for as long as it takes to copy what it dirtied last.
    Task<void> write_rest() {
        auto step = co_await make_room();
        if (!step) {
            co_return step;
        }
        progress_.enter(Phase::stop_and_copy);
        step = co_await stop_guest();
        if (!step) {
            co_return step;
        }
        const auto standing = progress_.now();
        dirtylog::DirtySet left = rounds_.dirty();
        step = co_await rounds_.collect();
        if (!step) {
            co_return step;
        }
        rounds_.dirty().merge(left);
        auto copy = [this] {
            return last_.copy(machine_.memory(), rounds_.dirty());
        };
        step = co_await on_worker(copy);
        if (!step) {
            co_return step;
        }
        progress_.blackout().pages = progress_.now() - standing;
        step = co_await save_state();
        if (step) {
            step = co_await go_on();
        }
        if (step) {
            step = co_await rounds_.stop();
        }
        if (!step) {
            co_return step;
        }
        progress_.enter(Phase::precopy); // the guest runs, and pages are on their way
        co_return co_await write_last_pages();
    }

    /// For the last pages, while the guest still runs.
    Task<void> make_room() {
        const Bytes wanted = formats::bytes_of(rounds_.dirty().count()) + late_pages;
        auto take = [this, wanted] {
            return last_.make_room(wanted);
        };
        co_return co_await on_worker(take);
    }

    /// `pages` were touched; those of the base are added.
    Task<void> begin(dirtylog::DirtySet& pages, GivenPages given) {
        options_.image.given = given;
        auto description = describe_guest(machine_, std::move(options_.description), pages.count());
        if (increment_) {
            pages.merge(increment_->pages_of_base());
        }
        auto start = [this, &description]() -> Status {
            auto writer = ImageWriter::begin(
                *sink_,
                description,
                options_.image,
                increment_ ? &increment_->difference() : nullptr);
            if (!writer) {
                return fail(std::move(writer).error());
            }
            writer_.emplace(*std::move(writer));
            return {};
        };
        co_return co_await on_worker(start);
    }

    /// On the worker; what it did is progress, and a cancel is heard behind it.
    template <typename Step>
    Task<void> do_step(Step step) {
        auto done = co_await on_worker(std::move(step));
        if (!done) {
            co_return done;
        }
        count();
        co_return gate_.is_requested() ? Status{cancelled()} : Status{};
    }

    Task<void> write_round(const dirtylog::DirtySet& pages) {
        begin_round(pages.count());
        formats::Gfn at{0};
        bool is_done = false;
        while (!is_done) {
            auto step = co_await do_step([&] { return write_some(pages, at, is_done); });
            if (!step) {
                co_return step;
            }
        }
        end_round();
        co_return Status{};
    }

    /// On the worker.
    Status write_some(const dirtylog::DirtySet& pages, formats::Gfn& at, bool& is_done) {
        for (PageCount done; done < pages_per_step && !gate_.is_requested();) {
            const auto run = pages.next_run(at, pages_per_copy);
            if (!run) {
                is_done = true;
                return {};
            }
            const auto bytes = std::span{copy_}.first(formats::bytes_of(run->count()).value());
            const auto begun = Clock::now();
            auto written = machine_.memory().copy_pages(*run, bytes);
            copying_ += Clock::now() - begun;
            if (written) {
                written = writer_->add_pages(*run, bytes);
            }
            if (!written) {
                return written;
            }
            copied_ += run->count();
            done += run->count();
            at = run->end();
        }
        return {};
    }

    Task<void> write_last_pages() {
        const auto& runs = last_.runs();
        PageCount count_of_all;
        for (const PageRange run : runs) {
            count_of_all += run.count();
        }
        begin_round(count_of_all);
        std::size_t next = 0;
        auto rest = last_.bytes();
        auto some = [&]() -> Status {
            for (PageCount done; next < runs.size() && done < pages_per_step; ++next) {
                const auto length = formats::bytes_of(runs[next].count()).value();
                auto added = writer_->add_pages(runs[next], rest.first(length));
                if (!added) {
                    return added;
                }
                rest = rest.subspan(length);
                copied_ += runs[next].count();
                done += runs[next].count();
            }
            return {};
        };
        while (next < runs.size()) {
            auto step = co_await do_step(some);
            if (!step) {
                co_return step;
            }
        }
        end_round();
        co_return Status{};
    }

    void begin_round(PageCount pages) {
        copied_ = PageCount{0};
        counted_ = PageCount{0};
        counted_raw_ = writer_->raw_pages();
        copying_ = {};
        writer_->expect(image_size_at_most(pages));
        progress_.begin_round(round_, formats::bytes_of(pages));
        round_begun_ = progress_.now();
    }
    /// What the worker has done, as progress; it rests meanwhile.
    void count() {
        const PageCount raw = writer_->raw_pages() - counted_raw_;
        const Bytes written = writer_->written();
        progress_.add_pages(raw, copied_ - counted_ - raw, written - told_);
        counted_ = copied_;
        counted_raw_ = writer_->raw_pages();
        told_ = written;
    }
    void end_round() {
        round_took_ = progress_.now() - round_begun_;
        progress_.end_round();
        ++round_;
    }

    Status check_guest() const {
        const auto end = machine_.end();
        if (!end) {
            return {};
        }
        return fail(
            ErrorCode::wrong_state,
            fmt::format("the guest ended by itself while its image was written: {}", end->text));
    }

    Task<void> stop_guest() {
        stopped_at_ = progress_.now();
        auto stop = [this] {
            return StoppedGuest::stop(machine_);
        };
        auto stopped = co_await on_worker(stop);
        if (!stopped) {
            co_return fail(std::move(stopped).error());
        }
        stopped_.emplace(*std::move(stopped));
        progress_.blackout().stop = progress_.now() - stopped_at_;
        co_return check_guest();
    }

    Task<void> save_state() {
        progress_.enter(Phase::state);
        const auto begun = progress_.now();
        auto save = [this] {
            return machine_.save();
        };
        auto state = co_await on_worker(save);
        if (!state) {
            co_return fail(std::move(state).error().during("saving the VM's state"));
        }
        state_.emplace(*std::move(state));
        progress_.blackout().state = progress_.now() - begun;
        co_return Status{};
    }

    /// At full speed; as it was before it was stopped.
    Task<void> go_on() {
        if (!stopped_) {
            co_return Status{};
        }
        const auto begun = progress_.now();
        rounds_.release();
        auto resume = [this] {
            return stopped_->go_on();
        };
        auto went_on = co_await on_worker(resume);
        stopped_.reset();
        progress_.blackout().handover = progress_.now() - begun;
        co_return went_on;
    }

    Task<SnapshotOutcome> conclude(Status ended) {
        SnapshotOutcome outcome;
        auto went_on = co_await go_on();
        auto untracked = co_await rounds_.stop();
        if (!untracked) {
            progress_.note(untracked.error().text());
        }
        // What was cancelled may have failed by it.
        if (!ended && gate_.is_requested() && !gate_.is_closed()) {
            ended = cancelled();
        }
        if (!went_on) {
            progress_.note(went_on.error().text());
        }
        if (!ended) {
            outcome.error = std::move(ended).error();
        }
        auto drop = [this]() -> Status {
            writer_.reset(); // waits for what is being written
            sink_.reset();   // the file of an image that is not whole
            return {};
        };
        auto dropped = co_await on_worker(drop);
        (void)dropped; // it is always well
        outcome.report = progress_.report();
        co_return outcome;
    }

    vmm::Machine& machine_;
    SnapshotOptions options_;
    std::unique_ptr<ImageSink> sink_;
    CancelGate& gate_;
    boost::asio::thread_pool worker_;
    Progress progress_;
    detail::PrecopyRounds rounds_;
    std::optional<ImageIncrement> increment_; ///< of the options' base
    std::optional<ImageWriter> writer_;       ///< refers to sink_ and increment_

    std::vector<std::byte> copy_; ///< the worker's
    detail::HeldPages last_;
    std::optional<vmm::MachineState> state_;
    std::optional<StoppedGuest> stopped_; ///< while it stands still by us
    Clock::time_point stopped_at_;

    std::uint32_t round_ = 0;
    PageCount copied_; ///< in this round; the worker's while it is at work, as the next
    Duration copying_{};
    Clock::time_point round_begun_;
    Duration round_took_{};
    PageCount counted_, counted_raw_; ///< that the progress knows of
    Bytes told_;
};

Task<SnapshotOutcome> run_session(
    vmm::Machine& machine,
    SnapshotOptions options,
    std::unique_ptr<ImageSink> sink,
    CancelGate& gate,
    Observer& observer) {
    SnapshotSession session{machine, std::move(options), std::move(sink), gate, observer};
    co_return co_await session.run();
}

} // namespace

Task<SnapshotOutcome> run_snapshot(
    vmm::Machine& machine,
    SnapshotOptions options,
    std::unique_ptr<ImageSink> sink,
    CancelGate& gate,
    Observer& observer) {
    auto session = run_session(machine, std::move(options), std::move(sink), gate, observer);
    co_return co_await transport::shielded(std::move(session));
}

} // namespace wherry::migrate
