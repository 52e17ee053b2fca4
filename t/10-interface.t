# Names, prototypes, usage texts and constants of the package.
use strict;
use warnings;

use Test::More;
use lib 't/lib';
use StreamTest qw(Sys::Virt);

my %constant = (
    NONBLOCK => 1, RECV_STOP_AT_HOLE => 1,
    EVENT_READABLE => 1, EVENT_WRITABLE => 2, EVENT_ERROR => 4, EVENT_HANGUP => 8,
);
my %sub = (
    _new_obj        => ['$;$',   'con, flags=0'],
    send            => ['$$$',   'st, data, nbytes'],
    recv            => ['$$$;$', 'st, data, nbytes, flags=0'],
    recv_hole       => ['$;$',   'st, flags=0'],
    send_hole       => ['$$;$',  'st, lengthSV, flags=0'],
    send_all        => ['$$',    'stref, handler'],
    recv_all        => ['$$',    'stref, handler'],
    sparse_recv_all => ['$$$',   'stref, handler, hole_handler'],
    sparse_send_all => ['$$$$',  'stref, handler, hole_handler, skip_handler'],
    add_callback    => ['$$$',   'stref, events, cb'],
    update_callback => ['$$',    'st, events'],
    remove_callback => ['$',     'st'],
    finish          => ['$',     'st'],
    abort           => ['$',     'st'],
    DESTROY         => ['$',     'st_rv'],
    # Additions of this module's.
    (map { ($_->[0] => ['$$@', "stref, $_->[1], ..."]) } [recv_file => 'target'], [send_file => 'source']) x rust(),
);

for my $name (sort keys %constant) {
    my $code = Sys::Virt::Stream->can($name);
    ok $code, "$name is there" or next;
    is $code->(), $constant{$name}, "$name in scalar context";
    is_deeply [$code->()], [$constant{$name}], "$name in list context";
    is prototype($code), '', "$name takes nothing, so it folds at compile time";
}

for my $name (sort keys %sub) {
    my ($prototype, $arguments) = @{ $sub{$name} };
    my $code = Sys::Virt::Stream->can($name);
    ok $code, "$name is there" or next;
    is prototype($code), $prototype, "prototype of $name";
    my $required = ($prototype =~ /^(\$*)/)[0];
    my %count = (few => length($required) - 1, many => $prototype =~ /@/ ? 31 : ($prototype =~ tr/$//) + 1);
    for my $which (sort keys %count) {
        my $error = error_of(sub { &$code((undef) x $count{$which}) });
        like $error, qr/^Usage: \QSys::Virt::Stream::$name($arguments)\E at \Q@{[__FILE__]}\E line/,
            "$name with too $which arguments";
        ok !ref $error, 'is a plain usage text';
    }
}

is prototype(Sys::Virt::Stream->can('_new')), undef, '_new has no prototype';
like error_of(sub { Sys::Virt::Stream->_new }), qr/^connection parameter is required at /,
    '_new wants a connection';

# What every caller of the binding gets wrong first.
my %arguments = (send => ['x', 1], recv => [my $buffer, 1], send_hole => [1], update_callback => [1],
    map { $_ => [] } qw(_new_obj recv_hole remove_callback finish abort));
my %invocant = (
    'undef' => undef, 'a number' => 1, 'a class name' => 'Sys::Virt::Stream',
    'an array' => [], 'a hash' => {}, 'an unblessed scalar reference' => \1, 'code' => sub { 1 },
    'a blessed array' => bless([], 'Some::Class'), 'a blessed hash' => bless({}, 'Sys::Virt::Stream::Odd'),
);
for my $name (sort keys %arguments) {
    my $code = Sys::Virt::Stream->can($name);
    my $argument = $name eq '_new_obj' ? 'con' : 'st';
    my $text = "Sys::Virt::Stream::$name() -- $argument is not a blessed SV reference";
    for my $what (sort keys %invocant) {
        my (@list, $scalar);
        my @warnings = warnings_of(sub { @list = &$code($invocant{$what}, @{ $arguments{$name} }) });
        is scalar @warnings, 1, "$name of $what warns";
        like $warnings[0], qr/^\Q$text\E at \Q@{[__FILE__]}\E line \d+/, 'and says so';
        is_deeply \@list, [undef], 'and returns one undef';
        warnings_of(sub { $scalar = &$code($invocant{$what}, @{ $arguments{$name} }) });
        is $scalar, undef, 'in scalar context too';
    }
}

# The C binding follows these as pointers.
SKIP: {
    skip 'the C binding crashes', 1 unless rust();
    my %handlers = (recv_all => 1, send_all => 1, sparse_recv_all => 2, sparse_send_all => 3);
    for my $name (sort keys %handlers) {
        my $code = Sys::Virt::Stream->can($name);
        for my $what (sort keys %invocant) {
            my $call = sub { &$code($invocant{$what}, (sub { 0 }) x $handlers{$name}) };
            my $libvirt = join '', map { ucfirst } split /_/, $name;
            error_is($call, {
                code => 73, level => 2, message => "invalid stream pointer in virStream$libvirt",
            }, "$name of $what");
        }
    }
}

is !!Sys::Virt::Stream->can('recv_file'), !!rust(), 'a program can ask whether whole files are to be had';

done_testing;
