// SPDX-License-Identifier: Apache-2.0
#include "migrate/estimation.hpp"

#include "dirtylog/dirty_tracker.hpp"
#include "dirtylog/working_set.hpp"
#include "migrate/memory_survey.hpp"
#include "migrate/source_session.hpp"
#include "transport/sealing_rate.hpp"
#include "transport/task_group.hpp"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include <boost/asio/thread_pool.hpp>
#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using formats::ErrorCode;
using formats::Status;
using transport::Task;
using Clock = Progress::Clock;

/// Between two readings of the log, at least; more where one takes more than a tenth of it.
constexpr Duration shortest_interval = std::chrono::milliseconds{50};
constexpr std::chrono::milliseconds sealing_time{50};
/// Rounds that sent less say more about delays than about throughput.
constexpr formats::Bytes measurable{std::uint64_t{8} << 20U};

/// Both one after the other, on one core.
BytesPerSecond together(BytesPerSecond a, BytesPerSecond b) {
    const auto first = static_cast<double>(a.value());
    const auto second = static_cast<double>(b.value());
    return BytesPerSecond{
        first + second > 0 ? static_cast<std::uint64_t>(first * second / (first + second)) : 0};
}

/// One estimation under way: see run_estimation.
class Watch {
public:
    Watch(
        vmm::Machine& machine,
        EstimationOptions options,
        CancelGate& gate,
        Observer& observer,
        const transport::Executor& executor)
        : machine_{machine},
          options_{std::move(options)},
          gate_{gate},
          observer_{observer},
          executor_{executor},
          seen_{machine.memory()},
          harvest_{machine.memory()} {}

    Task<Estimation> run() {
        Status ended = formats::fail(ErrorCode::cancelled, "the estimate was cancelled");
        transport::TaskGroup main{executor_};
        main.start(watch(), [&ended](const Status& outcome) { ended = outcome; });
        gate_.on_request([this, &main] {
            main.cancel();
            if (probe_) {
                probe_->hurry();
            }
        });
        // The outcome arrives through `ended`, whatever it is.
        auto joined = co_await main.join();
        (void)joined;
        gate_.on_request({});
        auto stopped = co_await stop_tracking();
        const bool in_time = gate_.close();
        if (!stopped) {
            co_return formats::fail(std::move(stopped).error());
        }
        if (!in_time || (!ended && ended.error().code() == ErrorCode::cancelled)) {
            co_return formats::fail(ErrorCode::cancelled, "the estimate was cancelled");
        }
        if (!ended) {
            co_return formats::fail(std::move(ended).error());
        }
        co_return conclude();
    }

private:
    template <typename Call>
    auto on_worker(Call call) {
        return transport::offload(worker_.get_executor(), std::move(call));
    }

    Task<void> watch() {
        auto good = options_.check();
        if (!good) {
            co_return good;
        }
        auto step = co_await look_around();
        if (!step) {
            co_return step;
        }
        if (options_.destination) {
            step = co_await ask_destination();
            if (!step) {
                co_return step;
            }
        }
        auto tracker = dirtylog::make_tracker(machine_);
        if (!tracker) {
            co_return formats::fail(std::move(tracker).error());
        }
        tracker_ = *std::move(tracker);
        auto start = [this] {
            return tracker_->start();
        };
        step = co_await on_worker(start);
        if (!step) {
            co_return step;
        }
        co_return co_await harvest_for_a_while();
    }

    /// What has nothing to do with time: the guest's memory and this host.
    Task<void> look_around() {
        auto survey = [this] {
            return survey_memory(machine_.memory());
        };
        auto surveyed = co_await on_worker(survey);
        if (!surveyed) {
            co_return formats::fail(std::move(surveyed).error());
        }
        survey_ = *surveyed;
        auto measure = [] {
            return transport::measure_sealing(sealing_time);
        };
        auto sealing = co_await on_worker(measure);
        if (!sealing) {
            co_return formats::fail(std::move(sealing).error());
        }
        sealing_ = *sealing;
        co_return Status{};
    }

    /// Before the guest is watched: it has less of this host's processors meanwhile.
    Task<void> ask_destination() {
        ProbeOptions asked = *std::move(options_.destination);
        const Plan named = std::exchange(asked.plan, plan_for(machine_));
        asked.plan.vm_name = named.vm_name;
        asked.plan.vm_id = named.vm_id;
        asked.plan.downtime_goal = options_.policy.downtime;
        asked.plan.populated = formats::bytes_of(survey_.raw_pages + survey_.zero_pages);
        asked.policy = options_.policy;
        asked.on_verdict = [this](const PlanVerdict& verdict) {
            take_verdict(verdict);
        };
        probe_.emplace(executor_, std::move(asked));
        auto outcome = co_await probe_->run();
        if (!outcome) {
            co_return formats::fail(std::move(outcome).error());
        }
        answer_ = *std::move(outcome);
        co_return Status{};
    }

    void take_verdict(const PlanVerdict& verdict) {
        std::vector<std::string> found = verdict.findings;
        for (const std::string& objection : verdict.objections) {
            found.push_back("would be refused: " + objection);
        }
        if (!verdict.postcopy_obstacle.empty()) {
            found.push_back("hybrid is not possible: " + verdict.postcopy_obstacle);
            options_.support = HybridSupport::none;
        }
        observer_.planned(found);
    }

    Task<void> harvest_for_a_while() {
        // The first reading is of no interval; it shows what a reading takes.
        auto step = co_await collect();
        if (!step) {
            co_return step;
        }
        const Duration interval = std::max(shortest_interval, 10 * readings_.front());
        const auto begun = last_reading_;
        while (last_reading_ - begun < options_.for_time) {
            step = co_await transport::pause_for(interval);
            if (!step) {
                co_return step;
            }
            const auto before = last_reading_;
            step = co_await collect();
            if (!step) {
                co_return step;
            }
            seen_.add(harvest_, last_reading_ - before);
            watched_ = last_reading_ - begun;
            tell();
            if (const auto end = machine_.end()) {
                co_return formats::fail(
                    ErrorCode::wrong_state,
                    fmt::format("the guest ended by itself while it was watched: {}", end->text));
            }
        }
        co_return Status{};
    }

    Task<void> collect() {
        auto renew = [this] {
            harvest_.clear();
            return tracker_->collect(harvest_);
        };
        const auto begun = Clock::now();
        auto collected = co_await on_worker(renew);
        last_reading_ = Clock::now();
        readings_.push_back(last_reading_ - begun);
        co_return collected;
    }

    Task<void> stop_tracking() {
        if (!tracker_) {
            co_return Status{};
        }
        auto stop = [this] {
            return tracker_->stop();
        };
        auto stopped = co_await on_worker(stop);
        tracker_name_ = tracker_->name();
        tracker_.reset();
        co_return stopped;
    }

    void tell() const {
        ProgressSnapshot now;
        now.memory = machine_.memory().size();
        now.downtime_goal = options_.policy.downtime;
        now.elapsed = watched_;
        now.eta = std::max(options_.for_time - watched_, Duration::zero());
        observer_.progressed(now);
    }

    [[nodiscard]] Estimation conclude() {
        Estimation result;
        result.guest = {
            .raw_pages = survey_.raw_pages,
            .zero_pages = survey_.zero_pages,
            .dirtied = seen_.curve()};
        result.policy = options_.policy;
        judge_link(result);
        result.tracker = tracker_name_;
        result.watched = watched_;
        result.written = seen_.written();
        result.estimate = estimate(result.guest, result.link, options_.policy, options_.support);
        if (answer_ && !answer_->verdict.objections.empty()) {
            result.estimate.recommended.reset();
            result.estimate.why = fmt::format(
                "a migration to {} would be refused: {}",
                answer_->peer,
                fmt::join(answer_->verdict.objections, "; "));
        }
        result.probe = std::move(answer_);
        return result;
    }

    void judge_link(Estimation& result) {
        std::ranges::sort(readings_);
        LinkOutlook& link = result.link;
        link.collecting = readings_[readings_.size() / 2];
        link.zero_rate = survey_.zero_rate;
        const auto& known = options_.known_link;
        const Duration beside =
            known && known->fixed_cost ? *known->fixed_cost : SourceOptions{}.fixed_cost;
        link.usual_fixed_cost = beside + link.collecting;
        link.high_fixed_cost = beside + readings_[(readings_.size() * 95 - 1) / 100];
        if (answer_) {
            result.rate_source = RateSource::probe;
            link.usual_rate = as_this_host_can(answer_->rate.usual, sealing_.usual);
            link.low_rate = as_this_host_can(answer_->rate.low, sealing_.low);
            link.opening = answer_->connecting + answer_->planning;
            if (!known || !known->fixed_cost) { // which has them in it
                link.usual_fixed_cost += 2 * answer_->round_trip;
                link.high_fixed_cost += 2 * answer_->round_trip;
            }
        } else if (known) {
            result.rate_source = RateSource::last_migration;
            link.usual_rate = known->usual;
            link.low_rate = known->low;
        } else if (options_.policy.bandwidth) {
            result.rate_source = RateSource::limit;
            link.usual_rate = *options_.policy.bandwidth;
            link.low_rate = *options_.policy.bandwidth;
        } else {
            result.rate_source = RateSource::this_host;
            link.usual_rate = rate_of_host(sealing_.usual);
            link.low_rate = rate_of_host(sealing_.low);
        }
    }

    [[nodiscard]] BytesPerSecond rate_of_host(BytesPerSecond sealing) const {
        return together(survey_.raw_rate, sealing);
    }
    /// Pages have to be got ready too, which what a probe sends is from the beginning.
    [[nodiscard]] BytesPerSecond
    as_this_host_can(BytesPerSecond measured, BytesPerSecond sealing) const {
        const bool is_known = survey_.raw_rate.value() > 0; // some memory was looked at
        return is_known ? std::min(measured, rate_of_host(sealing)) : measured;
    }

    vmm::Machine& machine_;
    EstimationOptions options_;
    CancelGate& gate_;
    Observer& observer_;
    transport::Executor executor_;
    boost::asio::thread_pool worker_{1};

    std::optional<Probe> probe_;
    std::optional<ProbeOutcome> answer_;
    MemorySurvey survey_;
    transport::SealingRate sealing_{};
    std::unique_ptr<dirtylog::DirtyTracker> tracker_;
    std::string tracker_name_;
    dirtylog::WorkingSet seen_;
    dirtylog::DirtySet harvest_;
    std::vector<Duration> readings_;
    Clock::time_point last_reading_;
    Duration watched_{};
};

Task<Estimation>
run_watch(vmm::Machine& machine, EstimationOptions options, CancelGate& gate, Observer& observer) {
    auto executor = co_await boost::asio::this_coro::executor;
    Watch watch{machine, std::move(options), gate, observer, executor};
    co_return co_await watch.run();
}

} // namespace

Status EstimationOptions::check() const {
    constexpr Duration shortest = std::chrono::milliseconds{500};
    constexpr Duration longest = std::chrono::minutes{1};
    if (for_time < shortest || for_time > longest) {
        return formats::fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "a guest is watched for 500 ms to a minute, not {} ms",
                std::chrono::duration_cast<std::chrono::milliseconds>(for_time).count()));
    }
    return policy.check();
}

std::optional<KnownLink> link_of(const Report& report) {
    KnownLink link;
    formats::Bytes sent;
    Duration took{};
    for (const RoundReport& round : report.rounds) {
        if (round.wire_bytes < measurable || round.duration <= Duration::zero()) {
            continue;
        }
        sent += round.wire_bytes;
        took += round.duration;
        const BytesPerSecond rate = rate_of(round.wire_bytes, round.duration);
        link.low = link.low.value() == 0 ? rate : std::min(link.low, rate);
    }
    link.usual = rate_of(sent, took);
    if (link.usual.value() == 0) {
        return std::nullopt;
    }
    const Duration blackout = report.blackout.total();
    if (report.blackout.handover > Duration::zero()) {
        link.fixed_cost = blackout - report.blackout.pages;
    }
    return link;
}

Task<Estimation> run_estimation(
    vmm::Machine& machine, EstimationOptions options, CancelGate& gate, Observer& observer) {
    auto watch = run_watch(machine, std::move(options), gate, observer);
    co_return co_await transport::shielded(std::move(watch));
}

} // namespace wherry::migrate
