package Sys::Virt::Stream::Command::Steps;

# A line for each step of a transfer, for programs.

use strict;
use warnings;

our $VERSION = '0.2.0';

use JSON::PP ();
use Time::HiRes ();

sub new {
    my ($class, %with) = @_;
    my $json = JSON::PP->new->canonical;
    return bless { json => $json, %with, began => Time::HiRes::time(), done => 0, holes => 0 }, $class;
}

sub show {
    my ($self, $done, $holes, $total) = @_;
    @$self{qw(done holes)} = ($done, $holes);
    $self->{total} = $total if defined $total;
    return $self->_say(0);
}

sub complete { return $_[0]->_say(1) }

sub _say {
    my ($self, $complete) = @_;
    my $seconds = sprintf '%.3f', Time::HiRes::time() - $self->{began};
    my $line = $self->{json}->encode({
        what => $self->{what}, bytes => $self->{done}, holes => $self->{holes}, total => $self->{total},
        seconds => $seconds + 0, complete => $complete ? JSON::PP::true() : JSON::PP::false(),
    });
    print { $self->{to} } "$line\n";
    $self->{to}->flush;
    return;
}

1;
