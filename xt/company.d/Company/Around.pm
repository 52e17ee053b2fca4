package Company::Around;

# -MCompany::Around=KIND: every method of a stream is called through something of another
# module's, which calls the old one with the same arguments. What calls is in main, as a
# handler's name without a package is looked up in the caller's.

use strict;
use warnings;

use Company ();
use Sys::Virt ();

our @METHODS = qw(send recv recv_hole send_hole recv_all sparse_recv_all send_all sparse_send_all
    add_callback update_callback remove_callback finish abort);

my $CLASS = <<'EOP';
    package Company::Around::Stream;
    use KIND;
    extends 'Sys::Virt::Stream';
    around $_ => sub { package main; my $next = shift; return $next->(@_) } for @METHODS;
    package Company::Around;
    no warnings 'redefine';
    my $made = \&Sys::Virt::new_stream;
    *Sys::Virt::new_stream = sub { return bless $made->(@_), 'Company::Around::Stream' };
    1;
EOP
my %KIND = (
    (map { my $kind = $_; ($kind => sub { eval $CLASS =~ s/KIND/$kind/r or die $@ }) } qw(Moo Moose)),
    'Test::MockModule' => sub {
        require Test::MockModule;
        our $mock = Test::MockModule->new('Sys::Virt::Stream');
        no warnings;
        for my $name (@METHODS) {
            my $old = Sys::Virt::Stream->can($name);
            $mock->mock($name => sub { package main; return $old->(@_) });
        }
    },
    'Hook::LexWrap' => sub {
        require Hook::LexWrap;
        no warnings;
        Hook::LexWrap::wrap("Sys::Virt::Stream::$_", pre => sub { }, post => sub { }) for @METHODS;
    },
    'Aspect' => sub {
        require Aspect;
        my $names = join '|', @METHODS;
        no warnings;
        our $aspect = Aspect::around(sub { $_->proceed }, Aspect::call(qr/^Sys::Virt::Stream::(?:$names)$/));
    },
    # What they look at are the pads and ops of all callers.
    'PadWalker' => sub {
        require PadWalker;
        require Devel::Caller;
        wrap(sub { my ($next, @rest) = @_; PadWalker::peek_my(1); local $@; eval { Devel::Caller::caller_args(1) }; return });
    },
    'Want' => sub { require Want; wrap(sub { Want::want('LIST'); return }) },
    'Sub::Uplevel' => sub { require Sub::Uplevel; wrap(undef, sub { package main; my $next = shift; return Sub::Uplevel::uplevel(1, $next, @_) }) },
    'Contextual::Return' => sub { require Contextual::Return; wrap(sub { return }) },
    'Syntax::Keyword::Try' => sub {
        # Its first versions return undef for an empty list out of a try.
        eval q{ use Syntax::Keyword::Try; wrap(undef, sub {
            package main;
            my ($next, $list, @got) = (shift, wantarray);
            try { $list ? (@got = $next->(@_)) : ($got[0] = $next->(@_)) } catch ($error) { die $error }
            return $list ? @got : $got[0];
        }); 1 } or die $@;
    },
    'Guard' => sub { require Guard; wrap(undef, sub { package main; my $next = shift; Guard::scope_guard(sub { }); return $next->(@_) }) },
);

sub wrap {
    my ($before, $around) = @_;
    no strict 'refs';
    no warnings;
    for my $name (@METHODS) {
        my $old = Sys::Virt::Stream->can($name);
        *{"Sys::Virt::Stream::$name"} = $around ? sub { return $around->($old, @_) } : sub { package main; $before->(@_); return $old->(@_) };
    }
    return;
}

sub import {
    my ($class, $kind) = @_;
    return if Company::is_guard();
    local $SIG{__WARN__} = sub { };    # some of them warn of prototypes that they take away
    ($KIND{$kind} || die "no kind $kind")->();
    return;
}

1;
