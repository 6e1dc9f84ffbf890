// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/runner.hpp"

#include "vmm/prompt_thread.hpp"

#include <type_traits>
#include <utility>

#include <boost/asio/post.hpp>

namespace wherry::migrate {

using formats::Status;
using transport::Task;

OwnershipRunner::OwnershipRunner(
    Owner& owner, OwnershipHands& hands, const transport::Executor& executor)
    : owner_{owner},
      hands_{hands},
      news_{executor},
      moved_{executor},
      wait_alarm_{executor},
      retry_alarm_{executor},
      asking_{executor} {
    boost::asio::post(disk_, vmm::answer_promptly); // a record is written while the guest waits
}

Task<void> OwnershipRunner::run() {
    auto begun = co_await carry_out(owner_.begin());
    if (!begun) {
        co_return begun;
    }
    hands_.owner_moved();
    while (!is_stopped_) {
        if (events_.empty() && wishes_.empty()) {
            auto waited = co_await news_.wait();
            if (!waited) {
                co_return waited;
            }
            continue;
        }
        if (!events_.empty()) {
            const OwnershipEvent event = std::move(events_.front());
            events_.pop_front();
            auto done = co_await carry_out(owner_.handle(event));
            if (!done) {
                co_return done;
            }
        }
        auto granted = co_await grant_wishes();
        if (!granted) {
            co_return granted;
        }
        hands_.owner_moved();
        moved_.notify_all();
    }
    wait_alarm_.silence();
    retry_alarm_.silence();
    co_return co_await asking_.join();
}

void OwnershipRunner::stop() {
    is_stopped_ = true;
    news_.notify_all();
}

void OwnershipRunner::tell(OwnershipEvent event) {
    events_.push_back(std::move(event));
    news_.notify_all();
}

/// A person is heard as soon as nothing is under way, so that he need not say it again.
Task<void> OwnershipRunner::grant_wishes() {
    while (!wishes_.empty() && !owner_.is_busy()) {
        Wish wish = std::move(wishes_.front());
        wishes_.pop_front();
        auto done = co_await grant(wish);
        if (!done) {
            co_return done;
        }
    }
    co_return Status{};
}

/// The guest is stopped before the Owner is told, for what it writes down then is final.
Task<void> OwnershipRunner::grant(const Wish& wish) {
    const bool stops_first = wish.guest == GuestIs::stopped_before;
    if (stops_first) {
        auto stopped = co_await hands_.try_stop_guest();
        if (!stopped) {
            wish.answer->emplace(std::move(stopped));
            co_return Status{};
        }
    }
    auto actions = wish.person(owner_);
    if (actions) {
        wish.answer->emplace();
        co_return co_await carry_out(*std::move(actions));
    }
    wish.answer->emplace(formats::fail(std::move(actions).error()));
    if (stops_first) {
        co_return co_await hands_.let_guest_go_on();
    }
    co_return Status{};
}

Task<void> OwnershipRunner::at_a_persons_word(
    std::function<formats::Result<OwnershipActions>(Owner&)> person) {
    Wish wish{
        .person = std::move(person),
        .guest = GuestIs::as_it_is,
        .answer = std::make_shared<std::optional<Status>>()};
    co_return co_await make_wish(std::move(wish));
}

Task<void> OwnershipRunner::salvage() {
    Wish wish{
        .person = [](Owner& owner) { return owner.salvage(); },
        .guest = GuestIs::stopped_before,
        .answer = std::make_shared<std::optional<Status>>()};
    co_return co_await make_wish(std::move(wish));
}

Task<void> OwnershipRunner::make_wish(Wish wish) {
    const auto answer = wish.answer;
    wishes_.push_back(std::move(wish));
    news_.notify_all();
    while (!*answer && !is_stopped_) {
        auto waited = co_await moved_.wait();
        if (!waited) {
            co_return waited;
        }
    }
    if (!*answer) {
        co_return formats::fail(formats::ErrorCode::wrong_state, "the hand-over is over");
    }
    co_return **answer;
}

Task<void> OwnershipRunner::wait_until(std::function<bool()> holds) {
    while (!holds() && !is_stopped_) {
        auto waited = co_await moved_.wait();
        if (!waited) {
            co_return waited;
        }
    }
    co_return Status{};
}

Task<void> OwnershipRunner::carry_out(OwnershipActions actions) {
    for (const OwnershipAction& action : actions) {
        auto done = co_await carry_out(action);
        if (!done) {
            co_return done;
        }
    }
    co_return Status{};
}

/// What fails here is said to the Owner, or is a message that is lost as if on its way: a failure
/// of the returned task is one of this program only.
Task<void> OwnershipRunner::carry_out(const OwnershipAction& action) {
    if (const auto* send = std::get_if<action::Send>(&action)) {
        auto sent = co_await hands_.send_word(send->kind, send->epoch);
        (void)sent;
    } else if (const auto* record = std::get_if<action::WriteRecord>(&action)) {
        co_return co_await write(record->record);
    } else if (const auto* guest = std::get_if<action::StartGuest>(&action)) {
        co_return co_await start(guest->from_memory);
    } else if (std::holds_alternative<action::StopGuest>(action)) {
        co_return co_await hands_.stop_guest();
    } else if (std::holds_alternative<action::DropMemory>(action)) {
        co_return co_await hands_.drop_memory();
    } else if (const auto* question = std::get_if<action::AskArbiter>(&action)) {
        asking_.start(ask(*question));
    } else if (std::holds_alternative<action::Connect>(action)) {
        hands_.reconnect();
    } else if (const auto* alarm = std::get_if<action::Arm>(&action)) {
        arm(*alarm);
    } else if (const auto* silent = std::get_if<action::Disarm>(&action)) {
        alarm_of(silent->timer).silence();
    }
    co_return Status{};
}

Task<void> OwnershipRunner::write(OwnershipRecord record) {
    auto work = [this, &record] {
        return hands_.write_record(record);
    };
    auto written = co_await transport::offload(disk_.get_executor(), work);
    if (written) {
        events_.emplace_front(event::RecordWritten{});
    } else {
        events_.emplace_front(event::RecordFailed{written.error().text()});
    }
    co_return Status{};
}

Task<void> OwnershipRunner::start(bool from_memory) {
    auto started = co_await hands_.start_guest(from_memory);
    if (started) {
        events_.emplace_front(event::GuestStarted{});
    } else {
        events_.emplace_front(event::GuestNotStarted{started.error().text()});
    }
    co_return Status{};
}

Task<void> OwnershipRunner::ask(action::AskArbiter question) {
    auto work = [this, &question] {
        return hands_.ask_arbiter(question);
    };
    auto said = co_await transport::offload(arbiter_.get_executor(), work);
    if (said) {
        tell(event::ArbiterSays{*std::move(said)});
    } else {
        tell(event::ArbiterUnreachable{said.error().text()});
    }
    co_return Status{};
}

transport::Alarm& OwnershipRunner::alarm_of(action::Timer timer) {
    return timer == action::Timer::wait ? wait_alarm_ : retry_alarm_;
}

void OwnershipRunner::arm(const action::Arm& alarm) {
    alarm_of(alarm.timer).set(alarm.after, [this, serial = alarm.serial] {
        tell(event::TimerExpired{serial});
    });
}

} // namespace wherry::migrate
